"""Records to be found, and what finds them: SQL, which has to agree with the matcher."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, insert, select

from chat_store.database.engine import Database
from chat_store.filters.fields import CHANNEL_FIELDS, USER_FIELDS
from chat_store.filters.matching import channel_record, matches, user_record
from chat_store.filters.parsing import parse_filter
from chat_store.models import Channel, User
from chat_store.sql.filters import CHANNEL_BINDING, USER_BINDING, where
from chat_store.sql.tables import channels, members, users

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 31, 13, tzinfo=UTC)
A_USER = User(id="", created_at=START, updated_at=START)
A_CHANNEL = Channel(type="messaging", id="", created_at=START, updated_at=START)
Named = Mapping[str, str | None]


async def users_found(
    database: Database, people: Iterable[User], document: Mapping[str, Any]
) -> set[str]:
    """The ids that SQL finds, which must be those that match in memory."""
    people = list(people)
    predicate = parse_filter(document, USER_FIELDS)
    async with database.transaction() as connection:
        await connection.execute(delete(users))
        await connection.execute(insert(users), [a_row(users, user) for user in people])
        statement = select(users.c.id).where(where(predicate, USER_BINDING, database.dialect))
        found = set(await connection.scalars(statement))
    assert found == {user.id for user in people if matches(predicate, user_record(user))}
    return found


async def having_x(database: Database, values: Mapping[str, Any], test: Any) -> set[str]:
    """Which of the users with `values` as their custom field `x` the filter finds."""
    people = [replace(A_USER, id=name, custom={"x": value}) for name, value in values.items()]
    return await users_found(database, [*people, replace(A_USER, id="without")], {"x": test})


async def channels_found(
    database: Database, given: Mapping[str, tuple[Channel, Named]], document: Mapping[str, Any]
) -> set[str]:
    """As `users_found`, for channels with their members' names by id."""
    predicate = parse_filter(document, CHANNEL_FIELDS)
    membership = [(replace(channel, id=id_), named) for id_, (channel, named) in given.items()]
    people = {user_id: name for _, named in membership for user_id, name in named.items()}
    rows = [
        {"cid": channel.cid, "user_id": user_id, "channel_role": "", "custom": {}, "hidden": False}
        for channel, named in membership
        for user_id in named
    ]
    async with database.transaction() as connection:
        for table in (users, channels, members):
            await connection.execute(delete(table))
        known = [replace(A_USER, id=user_id, name=name) for user_id, name in people.items()]
        await connection.execute(insert(users), [a_row(users, user) for user in known])
        await connection.execute(insert(channels), [a_row(channels, c) for c, _ in membership])
        await connection.execute(insert(members), [row | {"created_at": START} for row in rows])
        statement = select(channels.c.id).where(where(predicate, CHANNEL_BINDING, database.dialect))
        found = set(await connection.scalars(statement))
    assert found == {
        channel.id
        for channel, named in membership
        if matches(
            predicate, channel_record(channel, list(named), list(filter(None, named.values())))
        )
    }
    return found


def a_row(table: Any, record: Any) -> dict[str, Any]:
    return {column.name: getattr(record, column.name) for column in table.c}


# One user per value; "without" has no `x` at all.
