"""Paging by key, in any order and in both directions, while records come and go."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cmp_to_key
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Table, delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.database.columns import to_microseconds
from chat_store.database.engine import Database
from chat_store.errors import InvalidSortError
from chat_store.filters.fields import CHANNEL_FIELDS, USER_FIELDS, Catalogue, Field, Kind
from chat_store.filters.matching import Record, channel_record, user_record
from chat_store.models import Channel, User
from chat_store.paging import NEWEST_FIRST, Cursor, Page, PageRequest, Sort, parse_sort
from chat_store.sql.filters import CHANNEL_BINDING, USER_BINDING, Binding
from chat_store.sql.paging import fetch_page, paged
from chat_store.sql.tables import channels, users

START = datetime(2026, 1, 31, 12, tzinfo=UTC)

NAMES = st.sampled_from(["a", "B", "b", "é", "Z", "aa", "", "\ue000", "😀"])
NUMBERS = st.sampled_from([0, 1, 1.5, -2, 0.1, 12.34, 1e-7, 2**53])
VALUES = st.one_of(NAMES, NUMBERS, st.booleans(), st.none(), st.just([1]), st.just({"b": 1}))
MOMENTS = st.integers(0, 2).map(lambda second: START + timedelta(seconds=second, microseconds=7))

MOST_TIMES = st.none() | MOMENTS
CUSTOMS = st.dictionaries(
    st.sampled_from(["a", 'q"t']), VALUES | st.fixed_dictionaries({"b": VALUES})
)
A_USER = st.builds(
    User,
    id=st.sampled_from("aZé"),
    name=st.none() | NAMES,
    role=st.sampled_from(["user", "admin"]),
    banned=st.booleans(),
    created_at=MOMENTS,
    updated_at=st.just(START),
    last_active=MOST_TIMES,
    custom=CUSTOMS,
)
A_CHANNEL = st.builds(
    Channel,
    type=st.sampled_from(["messaging", "team"]),
    id=st.sampled_from("aZ-"),
    name=st.none() | NAMES,
    team=st.sampled_from([None, "red", "Blue"]),
    member_count=st.sampled_from([0, 1, 10]),
    frozen=st.booleans(),
    created_at=MOMENTS,
    updated_at=st.just(START),
    last_message_at=MOST_TIMES,
    custom=CUSTOMS,
)


@dataclass(frozen=True)
class Sorted:
    """A kind of record, and what it is sorted on here."""

    binding: Binding
    catalogue: Catalogue
    table: Table
    a_record: st.SearchStrategy[Any]
    seen: Callable[[Any], Record]
    fields: tuple[str, ...]

    def id_of(self, record: Any) -> str:
        return str(getattr(record, self.binding.key))


CUSTOM_FIELDS = ("a", "a.b", 'q"t')
USERS = Sorted(
    USER_BINDING,
    USER_FIELDS,
    users,
    A_USER,
    user_record,
    ("name", "role", "banned", "created_at", "last_active", "id", *CUSTOM_FIELDS),
)
CHANNELS = Sorted(
    CHANNEL_BINDING,
    CHANNEL_FIELDS,
    channels,
    A_CHANNEL,
    lambda channel: channel_record(channel, (), ()),
    (
        *("name", "team", "type", "frozen", "member_count", "cid", "id"),
        *("created_at", "last_message_at", "last_updated", *CUSTOM_FIELDS),
    ),
)


class Walk:
    """Through the records of one kind in one order, while they come and go."""

    def __init__(
        self, kind: Sorted, data: st.DataObject, connection: AsyncConnection, database: Database
    ) -> None:
        self.kind = kind
        self.data = data
        self.connection = connection
        self.dialect = database.dialect
        sorts = st.lists(
            st.tuples(st.sampled_from(kind.fields), st.booleans()),
            max_size=5,
            unique_by=lambda sort: sort[0],
        )
        self.order = parse_sort(data.draw(sorts, "sort"), kind.catalogue)
        self.stored: dict[str, Any] = {}
        # also those that are gone: a cursor outlives its record
        self.known: dict[str, Any] = {}

    async def add(self) -> None:
        drawn = self.data.draw(self.kind.a_record, "added")
        record = replace(drawn, id=f"{drawn.id}{len(self.known)}")
        self.stored[self.kind.id_of(record)] = self.known[self.kind.id_of(record)] = record
        row = {column.name: getattr(record, column.name) for column in self.kind.table.c}
        await self.connection.execute(insert(self.kind.table), row)

    async def change(self, page: Page[str]) -> None:
        """Adds or deletes something, now and then what a cursor stands at."""
        change = self.data.draw(st.sampled_from(["nothing", "add", "delete", "delete at the edge"]))
        if change == "add":
            await self.add()
        edges = [id_ for id_ in (*page.items[:1], *page.items[-1:]) if id_ in self.stored]
        those = sorted(self.stored) if change == "delete" else edges
        if change.startswith("delete") and those:
            gone = self.data.draw(st.sampled_from(those), "deleted")
            del self.stored[gone]
            key = self.kind.table.c[self.kind.binding.key]
            await self.connection.execute(delete(self.kind.table).where(key == gone))

    async def page(self, cursor: Cursor | None) -> tuple[Page[str], int]:
        size = self.data.draw(st.integers(1, 4), "size")
        binding = self.kind.binding
        request = PageRequest(size, self.order, cursor and _travelled(cursor))
        statement = select(binding.columns[binding.key])
        page = await fetch_page(
            self.connection, statement, request, binding, self.dialect, lambda row: str(row[0])
        )
        return page, size

    def ids(self) -> list[str]:
        return sorted(self.stored, key=cmp_to_key(self.compare))

    def compare(self, one: str, other: str) -> int:
        return _compare(
            self.kind.seen(self.known[one]),
            self.kind.seen(self.known[other]),
            (*self.order, Sort(Field(self.kind.binding.key, Kind.STRING))),
        )


@pytest.mark.timeout(600)
@given(data=st.data())
@pytest.mark.parametrize("kind", [USERS, CHANNELS], ids=["users", "channels"])
async def test_any_walk_to_and_fro_meets_what_is_there_next_to_the_last_page(
    database: Database, kind: Sorted, data: st.DataObject
) -> None:
    """So no untouched record repeats or is missed, whatever comes and goes between two pages."""
    async with database.transaction() as connection:
        walk = Walk(kind, data, connection, database)
        for _ in range(data.draw(st.integers(0, 9), "records")):
            await walk.add()
        start = data.draw(st.sampled_from([None, Cursor((), backward=True)]), "start")
        page, size = await walk.page(start)
        assert list(page.items) == (walk.ids()[-size:] if start else walk.ids()[:size])
        assert (page.next_cursor if start else page.prev_cursor) is None

        for _ in range(data.draw(st.integers(0, 7), "turns")):
            cursors = [cursor for cursor in (page.next_cursor, page.prev_cursor) if cursor]
            if not cursors:
                break
            await walk.change(page)
            cursor = data.draw(st.sampled_from(cursors), "cursor")
            beside = walk.ids()
            if cursor.key:
                edge = page.items[0 if cursor.backward else -1]
                side = -1 if cursor.backward else 1
                beside = [id_ for id_ in beside if walk.compare(id_, edge) * side > 0]

            page, size = await walk.page(cursor)

            assert list(page.items) == (beside[-size:] if cursor.backward else beside[:size])
            onward = page.prev_cursor if cursor.backward else page.next_cursor
            assert (onward is not None) == (len(beside) > size)
            back = page.next_cursor if cursor.backward else page.prev_cursor
            assert (back is not None) == bool(cursor.key)
        await connection.rollback()


async def _insert(connection: AsyncConnection, given: list[User]) -> None:
    names = [column.name for column in users.c]
    if given:
        await connection.execute(
            insert(users), [{name: getattr(user, name) for name in names} for user in given]
        )


async def _fetch(
    connection: AsyncConnection, database: Database, request: PageRequest
) -> Page[str]:
    def only_id(row: Any) -> str:
        assert row._fields == ("id",)
        return str(row.id)

    statement = select(users.c.id)
    return await fetch_page(connection, statement, request, USER_BINDING, database.dialect, only_id)


def _travelled(cursor: Cursor) -> Cursor:
    """As it comes back in a page token."""
    key = orjson.loads(orjson.dumps(cursor.key))
    return Cursor(tuple(key), cursor.backward)


def _compare(one: Record, other: Record, order: Sequence[Sort]) -> int:
    for sort in order:
        here, there = _ranked(one.value(sort.field)), _ranked(other.value(sort.field))
        if here != there:
            if here is None or there is None:
                return 1 if here is None else -1
            return -1 if (here < there) != sort.descending else 1
    return 0


def _ranked(value: Any) -> tuple[int, Any] | None:
    """Numbers < strings < booleans; what is no scalar counts as missing."""
    match value:
        case bool():
            return 2, value
        case int() | float():
            return 0, value
        case str():
            return 1, value
        case datetime():
            return 0, to_microseconds(value)
        case _:
            return None


def _numbered(count: int) -> list[User]:
    return [User(id=f"u{n}", created_at=START, updated_at=START) for n in range(count)]


async def test_a_page_leads_to_its_neighbours_and_only_where_there_are_any(
    database: Database,
) -> None:
    async with database.transaction() as connection:
        await _insert(connection, _numbered(5))

        first = await _fetch(connection, database, PageRequest(2))
        assert first == Page(("u0", "u1"), next_cursor=Cursor(("u1",)))

        second = await _fetch(connection, database, PageRequest(2, cursor=first.next_cursor))
        assert second == Page(
            ("u2", "u3"), next_cursor=Cursor(("u3",)), prev_cursor=Cursor(("u2",), backward=True)
        )

        third = await _fetch(connection, database, PageRequest(2, cursor=second.next_cursor))
        assert third == Page(("u4",), prev_cursor=Cursor(("u4",), backward=True))

        again = await _fetch(connection, database, PageRequest(2, cursor=third.prev_cursor))
        assert again == second
        start = await _fetch(connection, database, PageRequest(2, cursor=second.prev_cursor))
        assert start == first


async def test_from_a_page_that_emptied_the_way_back_leads_to_the_last_records(
    database: Database,
) -> None:
    async with database.transaction() as connection:
        await _insert(connection, _numbered(4))
        first = await _fetch(connection, database, PageRequest(2))
        await connection.execute(delete(users).where(users.c.id > "u1"))

        empty = await _fetch(connection, database, PageRequest(2, cursor=first.next_cursor))
        assert empty.items == ()
        back = await _fetch(connection, database, PageRequest(2, cursor=empty.prev_cursor))

        assert back.items == ("u0", "u1")
        assert (back.next_cursor, back.prev_cursor) == (None, None)


async def test_a_cursor_holds_plain_json_with_times_in_microseconds(database: Database) -> None:
    order = parse_sort([("created_at", True), ("city.name", False), ("city", True)], USER_FIELDS)
    async with database.transaction() as connection:
        await connection.execute(
            insert(users), _rows_of(User(id="u1", custom={"city": {"name": "Bonn"}}))
        )
        await _insert(connection, _numbered(1))
        page = await _fetch(connection, database, PageRequest(1, order))

    assert page.next_cursor == Cursor((to_microseconds(START), "Bonn", None, "u1"))


def _rows_of(user: User) -> list[dict[str, Any]]:
    row = {column.name: getattr(user, column.name) for column in users.c}
    return [row | {"created_at": START, "updated_at": START}]


@pytest.mark.parametrize(
    ("sort", "key"), [((), ("u1",)), (NEWEST_FIRST, (to_microseconds(START), "u1"))]
)
async def test_the_hot_orders_are_read_as_a_range_of_an_index(
    database: Database, sort: tuple[Sort, ...], key: tuple[Any, ...]
) -> None:
    request = PageRequest(25, sort, Cursor(key))
    statement = paged(select(users.c.id), request, USER_BINDING, database.dialect)
    async with database.transaction() as connection:
        compiled = statement.compile(connection.sync_engine, compile_kwargs={"literal_binds": True})
        if database.dialect == "sqlite":
            plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")
            steps = [row[-1] for row in plan]
            assert steps[0].startswith("SEARCH users USING")
            assert steps[0].endswith(("(id>?)", "(created_at<?)"))
        else:
            await connection.execute(text("SET LOCAL enable_seqscan = off"))
            await connection.execute(text("SET LOCAL enable_bitmapscan = off"))
            plan = await connection.exec_driver_sql(f"EXPLAIN {compiled}")
            steps = [row[0] for row in plan]
            condition = r"Index Cond: \(created_at <=" if sort else r"Index Cond: \(\(?id\)?.* >"
            assert any(re.search(condition, step) for step in steps), steps


def test_without_a_wish_the_newest_come_first() -> None:
    assert parse_sort([], USER_FIELDS) == (Sort(Field("created_at", Kind.DATE), descending=True),)


SMALL = Catalogue([Field("id", Kind.STRING), Field("segments", Kind.STRINGS)], allow_custom=False)


@pytest.mark.parametrize(
    ("sort", "catalogue", "path"),
    [
        ([("nothing", False)], SMALL, "sort[0].field"),
        ([("id", False), ("segments", False)], SMALL, "sort[1].field"),
        ([("teams", False)], USER_FIELDS, "sort[0].field"),
        ([("team", False)], USER_FIELDS, "sort[0].field"),
        ([("members", False)], CHANNEL_FIELDS, "sort[0].field"),
        ([("member.user.name", False)], CHANNEL_FIELDS, "sort[0].field"),
        ([("a", False), ("b", True), ("a", True)], USER_FIELDS, "sort[2].field"),
        ([("", False)], USER_FIELDS, "sort[0].field"),
        ([("a..b", False)], USER_FIELDS, "sort[0].field"),
        ([("a\0", False)], USER_FIELDS, "sort[0].field"),
        ([("\ud800", False)], USER_FIELDS, "sort[0].field"),
        ([(name, False) for name in "abcdef"], USER_FIELDS, "sort"),
    ],
)
def test_a_sort_that_cannot_be_followed_is_refused_at_its_place(
    sort: list[tuple[str, bool]], catalogue: Catalogue, path: str
) -> None:
    with pytest.raises(InvalidSortError) as refused:
        parse_sort(sort, catalogue)

    assert refused.value.field == path


def test_channels_are_sorted_on_their_team_which_they_have_one_of() -> None:
    assert parse_sort([("team", False)], CHANNEL_FIELDS) == (Sort(Field("team", Kind.STRING)),)
