"""SQLite, PostgreSQL and the matcher give the same answer to any filter over any records."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from chat_store.database import Database
from chat_store.fields import CHANNEL_FIELDS, USER_FIELDS
from chat_store.filters import parse_filter
from chat_store.matching import channel_record, matches, user_record
from chat_store.models import Channel, User
from chat_store.sql_filters import CHANNEL_BINDING, USER_BINDING, where
from chat_store.tables import channels, members, users

START = datetime(2026, 1, 31, 12, tzinfo=UTC)

# Few values, so that filters find something; each is there for a way in which engines differ.
WORDS = (
    "",
    "a",
    "A",
    "b",
    "red",
    "Red Rover",
    "rover_curiosity",
    "é",
    "É",
    "straße",
    "STRASSE",
    "ǅ",
)
ODD_WORDS = (
    "\u017f",  # a long s
    "İ",
    "\u212aelvin",
    "ΣΊΣΥΦΟΣ",
    "σίσυφος",
    "नमस्ते",
    "😀 smile",
    "\ue000",
    "[1]",
    "{}",
    '"',
    "\\",
    "1",
)
TEXTS = st.sampled_from(WORDS + ODD_WORDS) | st.text(
    st.characters(exclude_characters="\0", codec="utf-8"), max_size=6
)
NAMES = st.sampled_from([text for text in WORDS + ODD_WORDS if text])
NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 2.5, 0.1, 0.30000000000000004, 1e-7, 12.34, 2**53, 5e-324]
) | st.floats(-100, 100)
SCALARS = TEXTS | NUMBERS | st.booleans()
KEYS = st.sampled_from(["a", "b", "0", "$x", 'q"t', "b\\s", "n\nl", "é", "a[0]", " "])
JSON = st.recursive(
    SCALARS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
OPERANDS = st.recursive(
    SCALARS | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS.filter(lambda key: key != "$x"), inner, max_size=3)
    ),
    max_leaves=6,
)
MOMENTS = st.integers(-2, 2).map(lambda second: START + timedelta(seconds=second, microseconds=1))
CUSTOM_KEYS = st.sampled_from(["a", "b", "team", "0", 'q"t', "b\\s", "n\nl", "é"])
CUSTOMS = st.dictionaries(CUSTOM_KEYS, JSON, max_size=4)


@st.composite
def users_to_find(draw: st.DrawFn) -> list[User]:
    return [
        User(
            id=f"{draw(NAMES)}-{index}",
            name=draw(st.none() | TEXTS),
            username=draw(st.none() | TEXTS),
            role=draw(st.sampled_from(["user", "admin"])),
            language=draw(st.none() | st.just("en")),
            teams=tuple(draw(st.lists(NAMES, max_size=3))),
            custom=draw(CUSTOMS),
            banned=draw(st.booleans()),
            created_at=draw(MOMENTS),
            updated_at=START,
            last_active=draw(st.none() | MOMENTS),
        )
        for index in range(draw(st.integers(1, 6)))
    ]


Membership = Mapping[str, list[str]]


@st.composite
def channels_to_find(draw: st.DrawFn) -> tuple[list[User], list[Channel], Membership]:
    people = draw(users_to_find())
    found = [
        Channel(
            type=draw(st.sampled_from(["messaging", "team"])),
            id=f"c{index}",
            name=draw(st.none() | TEXTS),
            team=draw(st.none() | NAMES),
            created_by_id=draw(st.none() | st.just("a-0")),
            custom=draw(CUSTOMS),
            filter_tags=tuple(draw(st.lists(NAMES, max_size=2))),
            frozen=draw(st.booleans()),
            member_count=draw(st.integers(0, 3)),
            message_count=draw(st.integers(0, 3)),
            created_at=draw(MOMENTS),
            updated_at=START,
            last_message_at=draw(st.none() | MOMENTS),
        )
        for index in range(draw(st.integers(1, 4)))
    ]
    ids = st.sampled_from([user.id for user in people] + ["nobody"])
    return people, found, {c.cid: draw(st.lists(ids, unique=True, max_size=4)) for c in found}


def _orders(operand: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    return dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), operand)


def _equalities(operand: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    choices = st.lists(st.none() | operand, max_size=4)
    return {
        **dict.fromkeys(("$eq", "$ne"), st.none() | operand),
        **dict.fromkeys(("$in", "$nin"), choices),
        "$exists": st.booleans(),
    }


SEARCHES = {
    "$autocomplete": st.sampled_from(
        ["r", "ROVER", "cur", "É", "\u03c3", "s", "k", "न", "ß", " red r", "1"]
    ),
    "$q": TEXTS.filter(bool),
}
NONEMPTY = TEXTS.filter(bool)
DATES = MOMENTS.map(datetime.isoformat)
BY_KIND: Mapping[str, Mapping[str, st.SearchStrategy[Any]]] = {
    "string": {**_equalities(TEXTS), **_orders(TEXTS), **SEARCHES},
    "many": {
        **_equalities(NONEMPTY),
        **SEARCHES,
        "$eq": st.none() | NONEMPTY | st.lists(NAMES, max_size=3),
        "$ne": st.none() | NONEMPTY | st.lists(NAMES, max_size=3),
        "$contains": NONEMPTY | st.lists(NAMES, max_size=3),
    },
    "bool": _equalities(st.booleans()),
    "date": {**_equalities(DATES), **_orders(DATES)},
    "number": {**_equalities(NUMBERS), **_orders(NUMBERS)},
    "custom": {
        **_equalities(OPERANDS),
        **_orders(TEXTS | NUMBERS),
        **SEARCHES,
        "$contains": OPERANDS,
    },
}
CUSTOM_FIELDS = dict.fromkeys(
    ["a", "b", "a.b", "b.0", 'q"t', 'b\\s.q"t', "n\nl", "é", "none"], "custom"
)
USER_KINDS = {
    "id": "string",
    "name": "string",
    "language": "string",
    "teams": "many",
    "team": "many",
    "banned": "bool",
    "created_at": "date",
    "last_active": "date",
    **CUSTOM_FIELDS,
}
CHANNEL_KINDS = {
    "cid": "string",
    "type": "string",
    "team": "string",
    "name": "string",
    "members": "many",
    "member.user.name": "many",
    "filter_tags": "many",
    "created_at": "date",
    "last_message_at": "date",
    "last_updated": "date",
    "member_count": "number",
    "frozen": "bool",
    **CUSTOM_FIELDS,
}


def _filters(kinds: Mapping[str, str]) -> st.SearchStrategy[dict[str, Any]]:
    def condition(name: str) -> st.SearchStrategy[dict[str, Any]]:
        tests = {operator: st.just(operator) for operator in BY_KIND[kinds[name]]}
        return st.sampled_from(sorted(tests)).flatmap(
            lambda operator: BY_KIND[kinds[name]][operator].map(lambda v: {name: {operator: v}})
        )

    one = st.sampled_from(sorted(kinds)).flatmap(condition)
    return st.recursive(
        one,
        lambda inner: st.sampled_from(["$and", "$or", "$nor"]).flatmap(
            lambda connective: st.lists(inner, min_size=1, max_size=3).map(
                lambda parts: {connective: parts}
            )
        ),
        max_leaves=6,
    )


def _rows(records: list[Any], names: list[str]) -> list[dict[str, Any]]:
    return [{name: getattr(record, name) for name in names} for record in records]


async def _store_users(connection: Any, people: list[User]) -> None:
    await connection.execute(delete(users))
    await connection.execute(insert(users), _rows(people, [column.name for column in users.c]))


@pytest.mark.timeout(600)
@given(people=users_to_find(), filters=st.lists(_filters(USER_KINDS), min_size=1, max_size=8))
async def test_a_filter_finds_the_same_users_in_sql_and_in_memory(
    database: Database, people: list[User], filters: list[dict[str, Any]]
) -> None:
    async with database.write() as connection:
        await _store_users(connection, people)
        for document in filters:
            predicate = parse_filter(document, USER_FIELDS)
            found = await connection.scalars(
                select(users.c.id).where(where(predicate, USER_BINDING, database.dialect))
            )
            expected = {user.id for user in people if matches(predicate, user_record(user))}
            assert set(found) == expected, document


@pytest.mark.timeout(600)
@given(given=channels_to_find(), filters=st.lists(_filters(CHANNEL_KINDS), min_size=1, max_size=8))
async def test_a_filter_finds_the_same_channels_in_sql_and_in_memory(
    database: Database,
    given: tuple[list[User], list[Channel], Membership],
    filters: list[dict[str, Any]],
) -> None:
    people, found_channels, membership = given
    names = {user.id: user.name for user in people}
    async with database.write() as connection:
        await _store_users(connection, people)
        await connection.execute(delete(channels))
        await connection.execute(
            insert(channels), _rows(found_channels, [column.name for column in channels.c])
        )
        await connection.execute(delete(members))
        rows = [
            {
                "cid": cid,
                "user_id": user_id,
                "channel_role": "channel_member",
                "custom": {},
                "hidden": False,
                "created_at": START,
            }
            for cid, user_ids in membership.items()
            for user_id in user_ids
        ]
        if rows:
            await connection.execute(insert(members), rows)
        for document in filters:
            predicate = parse_filter(document, CHANNEL_FIELDS)
            found = await connection.scalars(
                select(channels.c.cid).where(where(predicate, CHANNEL_BINDING, database.dialect))
            )
            expected = set()
            for channel in found_channels:
                ids = membership[channel.cid]
                known = [name for user_id in ids if (name := names.get(user_id)) is not None]
                if matches(predicate, channel_record(channel, ids, known)):
                    expected.add(channel.cid)
            assert set(found) == expected, document
