"""What one page of a campaign writes to the chat store, and the part that runs in SQL.

Everything is column-wise and goes out in set-based statements inside the sender's transaction,
together with its cursor and counters: the page is there whole, or not at all.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Executable, bindparam, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.columns import Count, Key
from chat_store.database import DialectName
from chat_store.errors import StalePageError
from chat_store.inserts import insert_from, insert_rows
from chat_store.models import Member
from chat_store.recordsets import Parameters, Values, among_keys, keys, packed, records
from chat_store.sql_members import count_members, later
from chat_store.tables import channels, members, messages

_NEW = {"cid": Key}
_SHOWN = {"cid": Key, "user_id": Key}
_STANDING = {
    name: members.c[name].type
    for name in ("user_id", "channel_role", "custom", "hidden", "archived_at")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRows:
    """One page, planned against what the store held a moment ago.

    `channels` and `messages` map a column to its values or, when every row has the same, to one
    constant in `channel_constants` and `message_constants`. Every new channel gets the
    `standing_members` and its row of `receivers` (columns `cid`, `user_id`). `arrivals` counts the
    messages of channels that were there before; `joined` are those that the sender enters, and
    `shown` (`cid`, `user_id`) is who sees the channel again.
    """

    moment: datetime
    channels: Values = field(default_factory=dict)
    channel_constants: Mapping[str, Any] = field(default_factory=dict)
    standing_members: Sequence[Member] = ()
    receivers: Values = field(default_factory=dict)
    messages: Values = field(default_factory=dict)
    message_constants: Mapping[str, Any] = field(default_factory=dict)
    arrivals: Mapping[str, int] = field(default_factory=dict)
    joined: Sequence[str] = ()
    joining_user_id: str = ""
    shown: Values = field(default_factory=dict)


async def write_page(connection: AsyncConnection, dialect: DialectName, page: PageRows) -> None:
    """Writes the page in the caller's transaction.

    Raises `StalePageError` when a channel or a message that it would create is there by now;
    the transaction must then be given up.
    """
    if page.channels:
        await _insert_all(
            connection,
            insert_rows(dialect, channels, page.channels, constants=page.channel_constants),
            len(page.channels["cid"]),
        )
        await _add_members(connection, dialect, page)
    if page.messages:
        await _insert_all(
            connection,
            insert_rows(dialect, messages, page.messages, constants=page.message_constants),
            len(page.messages["id"]),
        )
    if page.arrivals:
        await _count(connection, dialect, page)
    if page.joined:
        await _join(connection, dialect, page)
    if page.shown:
        await connection.execute(_show(dialect), packed(dialect, _SHOWN, page.shown))


async def _insert_all(
    connection: AsyncConnection, insert: tuple[Executable, Parameters], planned: int
) -> None:
    if (await connection.execute(*insert)).rowcount != planned:
        raise StalePageError


async def _add_members(connection: AsyncConnection, dialect: DialectName, page: PageRows) -> None:
    if page.receivers.get("cid"):
        constants = _ordinary(page.moment)
        await connection.execute(
            *insert_rows(dialect, members, page.receivers, constants=constants)
        )
    standing = page.standing_members
    if standing:
        each = {name: [getattr(member, name) for member in standing] for name in _STANDING}
        await connection.execute(
            _stand(dialect),
            {
                **packed(dialect, _NEW, {"cid": page.channels["cid"]}, "new"),
                **packed(dialect, _STANDING, each, "each"),
                "moment": page.moment,
            },
        )


def _ordinary(moment: datetime) -> dict[str, Any]:
    return {
        "channel_role": "channel_member",
        "custom": {},
        "hidden": False,
        "created_at": moment,
    }


async def _count(connection: AsyncConnection, dialect: DialectName, page: PageRows) -> None:
    """In one statement, or two or three where a channel gets several messages."""
    by_count: dict[int, list[str]] = {}
    for cid, arrived in page.arrivals.items():
        by_count.setdefault(arrived, []).append(cid)
    for arrived, cids in by_count.items():
        given = {**keys(dialect, cids), "arrived": arrived, "latest": page.moment}
        await connection.execute(_arrival(dialect), given)


async def _join(connection: AsyncConnection, dialect: DialectName, page: PageRows) -> None:
    constants = {"user_id": page.joining_user_id, **_ordinary(page.moment)}
    insert = insert_rows(
        dialect, members, {"cid": page.joined}, constants=constants, returning=["cid"]
    )
    added = await connection.scalars(*insert)
    await count_members(connection, dialect, Counter(added))


@cache
def _stand(dialect: DialectName) -> Executable:
    """Makes each of the standing members one of each new channel."""
    new = records(dialect, _NEW, "new")
    each = records(dialect, _STANDING, "each")
    created_at = bindparam("moment", type_=members.c.created_at.type)
    rows = (
        select(new.c["cid"], *each.c.values(), created_at)
        .select_from(new.source.join(each.source, text("true")))
        .where(text("true"))
    )
    return insert_from(dialect, members, ["cid", *_STANDING, "created_at"], rows)


@cache
def _arrival(dialect: DialectName) -> Executable:
    latest = bindparam("latest", type_=channels.c.last_message_at.type)
    return (
        update(channels)
        .where(among_keys(dialect, channels.c.cid))
        .values(
            message_count=channels.c.message_count + bindparam("arrived", type_=Count),
            last_message_at=later(channels.c.last_message_at, latest),
        )
    )


@cache
def _show(dialect: DialectName) -> Executable:
    given = records(dialect, _SHOWN)
    return (
        update(members)
        .where(members.c.cid == given.c["cid"], members.c.user_id == given.c["user_id"])
        .where(members.c.hidden)
        .values(hidden=False)
    )
