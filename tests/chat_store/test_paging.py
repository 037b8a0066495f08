"""Paging by key, in any order and in both directions, while records come and go."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cmp_to_key
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.columns import to_microseconds
from chat_store.database import Database
from chat_store.errors import InvalidSortError
from chat_store.fields import CHANNEL_FIELDS, USER_FIELDS, Catalogue, Field, Kind
from chat_store.matching import user_record
from chat_store.models import User
from chat_store.paging import NEWEST_FIRST, Cursor, Page, PageRequest, Sort, parse_sort
from chat_store.sql_filters import USER_BINDING
from chat_store.sql_paging import fetch_page, paged
from chat_store.tables import users

START = datetime(2026, 1, 31, 12, tzinfo=UTC)

NAMES = st.sampled_from(["a", "B", "b", "é", "Z", "aa", "", "\ue000", "😀"])
NUMBERS = st.sampled_from([0, 1, 1.5, -2, 0.1, 12.34, 1e-7, 2**53])
VALUES = st.one_of(NAMES, NUMBERS, st.booleans(), st.none(), st.just([1]), st.just({"b": 1}))
MOMENTS = st.integers(0, 2).map(lambda second: START + timedelta(seconds=second, microseconds=7))
SORTED_ON = ["name", "role", "banned", "created_at", "last_active", "a", "a.b", 'q"t', "id"]
SORTS = st.lists(
    st.tuples(st.sampled_from(SORTED_ON), st.booleans()), max_size=5, unique_by=lambda sort: sort[0]
)


@st.composite
def a_user(draw: st.DrawFn, number: int) -> User:
    return User(
        id=f"{draw(st.sampled_from('aZé'))}{number}",
        name=draw(st.none() | NAMES),
        role=draw(st.sampled_from(["user", "admin"])),
        banned=draw(st.booleans()),
        created_at=draw(MOMENTS),
        updated_at=START,
        last_active=draw(st.none() | MOMENTS),
        custom=draw(
            st.dictionaries(
                st.sampled_from(["a", 'q"t']), VALUES | st.fixed_dictionaries({"b": VALUES})
            )
        ),
    )


@pytest.mark.timeout(600)
@given(data=st.data(), sort=SORTS)
async def test_walking_there_and_back_meets_every_untouched_record_once_and_in_order(
    database: Database, data: st.DataObject, sort: list[tuple[str, bool]]
) -> None:
    order = parse_sort(sort, USER_FIELDS)
    stored = {
        user.id: user
        for user in (data.draw(a_user(number)) for number in range(data.draw(st.integers(0, 12))))
    }
    untouched = set(stored)
    async with database.write() as connection:
        await connection.execute(delete(users))
        await _insert(connection, list(stored.values()))

        async def walk(
            page: Page[str], onward: Callable[[Page[str]], Cursor | None]
        ) -> list[Sequence[str]]:
            pages: list[Sequence[str]] = [page.items]
            while (cursor := onward(page)) is not None:
                await _touch(connection, data, stored, untouched)
                request = PageRequest(data.draw(st.integers(1, 4)), order, _travelled(cursor))
                page = await _fetch(connection, database, request)
                pages.append(page.items)
            return pages

        first = await _fetch(connection, database, PageRequest(data.draw(st.integers(1, 4)), order))
        there = [
            user_id for items in await walk(first, lambda p: p.next_cursor) for user_id in items
        ]
        _check(there, untouched, stored, order)

        untouched = set(stored)
        request = PageRequest(data.draw(st.integers(1, 4)), order, Cursor((), backward=True))
        last = await _fetch(connection, database, request)
        pages = await walk(last, lambda p: p.prev_cursor)
        back = [user_id for items in reversed(pages) for user_id in items]
        _check(back, untouched, stored, order)


async def _touch(
    connection: AsyncConnection, data: st.DataObject, stored: dict[str, User], untouched: set[str]
) -> None:
    """Adds or deletes a record, anywhere in the order."""
    change = data.draw(st.sampled_from(["add", "delete", "nothing"]))
    if change == "add":
        new = data.draw(a_user(100 + len(stored)).filter(lambda user: user.id not in stored))
        stored[new.id] = new
        await _insert(connection, [new])
    if change == "delete" and stored:
        gone = data.draw(st.sampled_from(sorted(stored)))
        untouched.discard(gone)
        del stored[gone]
        await connection.execute(delete(users).where(users.c.id == gone))


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


def _check(
    found: list[str], untouched: set[str], stored: dict[str, User], order: Sequence[Sort]
) -> None:
    assert len(found) == len(set(found))
    still_there = [user_id for user_id in found if user_id in untouched]

    def compare(one: User, other: User) -> int:
        return _compare(one, other, order)

    expected = sorted((stored[user_id] for user_id in untouched), key=cmp_to_key(compare))
    assert still_there == [user.id for user in expected]


def _compare(one: User, other: User, order: Sequence[Sort]) -> int:
    for sort in (*order, Sort(Field("id", Kind.STRING))):
        here, there = (_ranked(user_record(user).value(sort.field)) for user in (one, other))
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
    async with database.write() as connection:
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
    async with database.write() as connection:
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
    async with database.write() as connection:
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
    async with database.write() as connection:
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


SMALL = Catalogue([Field("id", Kind.STRING), Field("segments", Kind.STRINGS)], customs=False)


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
    assert parse_sort([("team", False)], CHANNEL_FIELDS) == (
        Sort(Field("team", Kind.STRING, any_if_empty=True)),
    )
