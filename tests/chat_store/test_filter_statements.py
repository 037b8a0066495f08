"""The SQL of filters: one text for one shape, and made for an index."""

from typing import Any

import pytest
from sqlalchemy import ClauseElement, event, make_url, select, text

from chat_store.database.engine import Database, DialectName
from chat_store.filters.fields import CHANNEL_FIELDS, USER_FIELDS
from chat_store.filters.parsing import parse_filter
from chat_store.paging import PageRequest, parse_sort
from chat_store.sql.filters import CHANNEL_BINDING, USER_BINDING, where
from chat_store.sql.paging import paged
from chat_store.sql.tables import channels, users

_DRIVERS = {"sqlite": "sqlite+aiosqlite://", "postgresql": "postgresql+asyncpg://"}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "document",
    [
        {"country": "USA"},
        {"country": {"$in": ["USA", "Japan"]}},
        {"address.city": "Bonn"},
        {"tags": {"$contains": ["a"]}},
        {"tags": {"$contains": {"a": 1}}},
        {"address": {"city": "Bonn"}},
        {"country": "USA", "age": {"$gte": 30}},
    ],
)
async def test_postgresql_answers_equality_and_containment_of_custom_fields_from_an_index(
    database: Database, document: dict[str, Any]
) -> None:
    predicate = parse_filter(document, USER_FIELDS)
    statement = select(users.c.id).where(where(predicate, USER_BINDING, database.dialect))
    async with database.transaction() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        event.listen(connection.sync_connection, "before_cursor_execute", _explain, retval=True)
        plan = list(await connection.scalars(statement))
    assert any("Bitmap Index Scan on users_by_custom" in step for step in plan), plan


def _explain(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any
) -> tuple[str, Any]:
    return f"EXPLAIN {statement}", parameters


NESTED: dict[str, Any] = {"a": {"$in": [1, "a", True, [1], {"b": 1}]}}
for _ in range(19):
    NESTED = {"$nor": [NESTED, {"members": ["a"]}]}


@pytest.mark.nightly
@pytest.mark.parametrize(
    "document",
    [
        {"$or": [{"a": {"$in": [1, "a", True, [1], None]}}] * 250},
        {"$nor": [{"a.b": {"$contains": {"c": 1}}}] * 250},
        {"$and": [{"name": {"$q": "x"}}] * 250},
        {"$or": [{"members": ["a", "b"]}] * 250},
        {"cid": {"$in": [f"{n:0100}" for n in range(10_000)]}},
        {"a": {"$in": [[n] for n in range(10_000)]}},
        {"a": {"$autocomplete": "s" * 1000, "$q": "k" * 1000}},
        {"name": {"$autocomplete": "s" * 1000, "$q": "k" * 1000}},
        {".".join("a" * 20): "x"},
        NESTED,
    ],
)
async def test_the_largest_filters_run(database: Database, document: dict[str, Any]) -> None:
    predicate = parse_filter(document, CHANNEL_FIELDS)
    statement = select(channels.c.cid).where(where(predicate, CHANNEL_BINDING, database.dialect))
    async with database.snapshot() as connection:
        await connection.execute(statement)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "x"}, {"b": "y"}),
        ({"a.b": 1}, {"c.d": 2.5}),
        ({"a": True}, {"a": False}),
        ({"a": {"$in": ["x", "y"]}}, {"a": {"$in": list("abcdefgh")}}),
        ({"a": {"$in": list(map(str, range(9)))}}, {"a": {"$in": list(map(str, range(1000)))}}),
        ({"id": {"$in": ["x"]}}, {"id": {"$in": list(map(str, range(1000)))}}),
        ({"a": {"$gt": 1}}, {"a": {"$gt": 1.5}}),
        ({"a": {"$contains": [1]}}, {"a": {"$contains": [{"b": 1}, 2]}}),
        ({"name": {"$autocomplete": "a"}}, {"name": {"$autocomplete": "b c"}}),
        ({"created_at": "2026-01-31T12:00:00Z"}, {"created_at": "2026-01-31T13:00:00Z"}),
    ],
)
@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_filters_of_one_shape_are_one_statement(
    name: DialectName, one: dict[str, Any], other: dict[str, Any]
) -> None:
    conditions = [
        where(parse_filter(given, USER_FIELDS), USER_BINDING, name) for given in (one, other)
    ]

    [text_of_one, text_of_other] = [_text(holds, name) for holds in conditions]

    assert text_of_one == text_of_other


@pytest.mark.parametrize(
    "test",
    [{"$q": "x"}, {"$autocomplete": "x"}, {"$in": [1, "a"]}, {"$in": [*range(100), [1], {"a": 1}]}],
)
def test_a_condition_on_postgresql_binds_its_key_once_and_its_operand_once(
    test: dict[str, Any],
) -> None:
    """A statement has 32,767 parameters at most, and 25 segments 6,250 conditions."""
    condition = where(parse_filter({"a": test}, USER_FIELDS), USER_BINDING, "postgresql")

    compiled = condition.compile(dialect=make_url(_DRIVERS["postgresql"]).get_dialect()())
    assert len(compiled.params) <= 2


@pytest.mark.parametrize("test", [{"$gt": "x"}, {"$autocomplete": "x"}, {"$q": "x"}])
def test_strings_out_of_jsonb_are_compared_bytewise_whatever_the_locale(
    test: dict[str, Any],
) -> None:
    holds = where(parse_filter({"a": test}, USER_FIELDS), USER_BINDING, "postgresql")

    assert 'COLLATE "C"' in _text(holds, "postgresql")


def test_strings_out_of_jsonb_are_sorted_bytewise_whatever_the_locale() -> None:
    request = PageRequest(1, parse_sort([("a", False)], USER_FIELDS))
    statement = paged(select(users.c.id), request, USER_BINDING, "postgresql")

    assert 'COLLATE "C"' in _text(statement, "postgresql").partition("ORDER BY")[2]


def _text(element: ClauseElement, name: DialectName) -> str:
    return str(element.compile(dialect=make_url(_DRIVERS[name]).get_dialect()()))
