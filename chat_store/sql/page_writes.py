"""The SQL that writes one page of a campaign.

The set-based statements run in the sender's transaction, together with its cursor and counters,
so a page is stored whole or not at all.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Insert, Update, bindparam, exists, func, select, text, update

from chat_store.database.bulk.batches import Write
from chat_store.database.bulk.inserts import insert_from, insert_rows
from chat_store.database.bulk.row_locks import locking
from chat_store.database.bulk.row_sources import in_keys, key_parameters, row_parameters, row_source
from chat_store.database.columns import Count, Key
from chat_store.database.engine import DialectName
from chat_store.errors import StalePageError
from chat_store.page_rows import PageRows
from chat_store.sql.members import later
from chat_store.sql.tables import channels, members, messages

_NEW = {"cid": Key}
_UNHIDDEN = {"cid": Key, "user_id": Key}
_FIXED = {
    name: members.c[name].type
    for name in ("user_id", "channel_role", "custom", "hidden", "archived_at")
}
_ONE_MORE = channels.c.member_count + 1
_LOCK_CHANNELS = locking(channels, in_keys("postgresql", channels.c.cid))
# until the end of the transaction
_BY_INDEX = select(
    func.set_config("enable_seqscan", "off", text("true")),
    func.set_config("enable_bitmapscan", "off", text("true")),
)


def page_writes(dialect: DialectName, page: PageRows) -> Iterator[Write]:
    """Yields the writes of a page, to be executed in this order in one transaction.

    Their execution raises `StalePageError` if a channel or message to create exists by now.
    """
    if dialect == "postgresql" and page.messages_per_channel:
        yield from _lock_in_order(page)
    if page.channels:
        constants = page.channel_constants
        new = insert_rows(
            dialect, channels, page.channels, constants=constants, raise_on_conflict=True
        )
        stale = StalePageError("the CID of a channel")
        yield Write(*new, rows=len(page.channels["cid"]), on_mismatch=stale)
        yield from _new_members(dialect, page)
    if page.messages:
        constants = page.message_constants
        new = insert_rows(
            dialect, messages, page.messages, constants=constants, raise_on_conflict=True
        )
        stale = StalePageError("the id or the target of a message")
        yield Write(*new, rows=len(page.messages["id"]), on_mismatch=stale)
    if page.messages_per_channel:
        yield from _counts(dialect, page)
    if page.sender_joins:
        yield from _sender_entries(dialect, page)
    if page.unhidden.get("cid"):
        yield Write(_unhide(dialect), row_parameters(dialect, _UNHIDDEN, page.unhidden))


def _lock_in_order(page: PageRows) -> Iterator[Write]:
    """Has the page lock rows in the order of `row_locks`.

    An UPDATE that finds rows by the index of their key locks them in that order by itself, which
    is cheaper than a statement that locks them beforehand. Only a page whose statements change
    different channels needs such a statement.
    """
    yield Write(_BY_INDEX, {})
    if len(set(page.messages_per_channel.values())) > 1:
        yield Write(_LOCK_CHANNELS, key_parameters("postgresql", page.messages_per_channel))


def _new_members(dialect: DialectName, page: PageRows) -> Iterator[Write]:
    if page.receivers.get("cid"):
        constants = _ordinary(page.moment)
        yield Write(*insert_rows(dialect, members, page.receivers, constants=constants))
    fixed = page.fixed_members
    if fixed:
        each = {name: [getattr(member, name) for member in fixed] for name in _FIXED}
        yield Write(
            _add_fixed_members(dialect),
            {
                **row_parameters(dialect, _NEW, {"cid": page.channels["cid"]}, "new"),
                **row_parameters(dialect, _FIXED, each, "each"),
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


def _counts(dialect: DialectName, page: PageRows) -> Iterator[Write]:
    """Yields one statement per number of new messages, which is 1 for most channels."""
    by_count: dict[int, list[str]] = {}
    for cid, arrived in page.messages_per_channel.items():
        by_count.setdefault(arrived, []).append(cid)
    for arrived, cids in by_count.items():
        given = {**key_parameters(dialect, cids), "arrived": arrived, "latest": page.moment}
        yield Write(_arrival(dialect), given)


def _sender_entries(dialect: DialectName, page: PageRows) -> Iterator[Write]:
    """Yields the sender's entries. Channels that the sender is already in do not change."""
    constants = {"user_id": page.sender_id, **_ordinary(page.moment)}
    entry, given = insert_rows(dialect, members, {"cid": page.sender_joins}, constants=constants)
    if dialect == "postgresql":
        yield Write(_counted(entry), given)
        return
    # the count first, because new members look like the others once they are in
    entering = {**key_parameters(dialect, page.sender_joins), "user_id": page.sender_id}
    yield Write(_entering(), entering)
    yield Write(entry, given)


@cache
def _add_fixed_members(dialect: DialectName) -> Insert:
    """Adds each of the fixed members to each new channel."""
    new = row_source(dialect, _NEW, "new")
    each = row_source(dialect, _FIXED, "each")
    created_at = bindparam("moment", type_=members.c.created_at.type)
    rows = (
        select(new.c["cid"], *each.c.values(), created_at)
        .select_from(new.source.join(each.source, text("true")))
        .where(text("true"))
    )
    return insert_from(dialect, members, ["cid", *_FIXED, "created_at"], rows)


@cache
def _arrival(dialect: DialectName) -> Update:
    latest = bindparam("latest", type_=channels.c.last_message_at.type)
    return (
        update(channels)
        .where(in_keys(dialect, channels.c.cid))
        .values(
            message_count=channels.c.message_count + bindparam("arrived", type_=Count),
            last_message_at=later(channels.c.last_message_at, latest),
        )
    )


@cache
def _counted(entry: Insert) -> Update:
    """Counts in the same statement: between two, another writer may add the same member."""
    added = entry.returning(members.c.cid).cte("added")
    return update(channels).where(channels.c.cid == added.c.cid).values(member_count=_ONE_MORE)


@cache
def _entering() -> Update:
    user_id = bindparam("user_id", type_=Key)
    is_in = exists().where(members.c.cid == channels.c.cid, members.c.user_id == user_id)
    entered = update(channels).where(in_keys("sqlite", channels.c.cid), ~is_in)
    return entered.values(member_count=_ONE_MORE)


@cache
def _unhide(dialect: DialectName) -> Update:
    given = row_source(dialect, _UNHIDDEN)
    return (
        update(members)
        .where(members.c.cid == given.c["cid"], members.c.user_id == given.c["user_id"])
        .where(members.c.hidden)
        .values(hidden=False)
    )
