"""What the operators mean on custom fields, for every type of value."""

from dataclasses import replace
from typing import Any

import pytest

from chat_store.database.engine import Database
from tests.chat_store.finding import (
    A_USER,
    LATER,
    having_x,
    users_found,
)

# One user per value; "without" has no `x` at all.
SORTS_OF_VALUE = {
    "one": 1,
    "one_and_a_half": 1.5,
    "text_one": "1",
    "a": "a",
    "capital_a": "A",
    "empty_text": "",
    "true": True,
    "false": False,
    "null": None,
    "object": {"a": 1, "b": [True]},
    "numbers": [1, 2],
    "numbers_back": [2, 1],
    "texts": ["a", "b"],
    "nothing": [],
    "lists": [["a", "b"], []],
    "objects": [{"a": 1, "b": 2}, {}],
    "nulls": [None],
}
ALL = {*SORTS_OF_VALUE, "without"}


OPERATORS: dict[str, list[tuple[Any, set[str]]]] = {
    "equal by type and value, a scalar also inside of arrays": [
        ({"$eq": 1}, {"one", "numbers", "numbers_back"}),
        (1.0, {"one", "numbers", "numbers_back"}),
        ("1", {"text_one"}),
        ("a", {"a", "texts"}),
        ("A", {"capital_a"}),
        ("", {"empty_text"}),
        (True, {"true"}),
        (False, {"false"}),
        (None, {"null", "without"}),
        ({"b": [True], "a": 1.0}, {"object"}),
        ({"a": 1}, set()),
        ([1, 2], {"numbers"}),
        ([], {"nothing"}),
        (["a", "b"], {"texts"}),
    ],
    "unequal are all others, also those without a value": [
        ({"$ne": 1}, ALL - {"one", "numbers", "numbers_back"}),
        ({"$ne": None}, ALL - {"null", "without"}),
        ({"$ne": {"a": 1, "b": [True]}}, ALL - {"object"}),
        ({"$ne": [1, 2]}, ALL - {"numbers"}),
    ],
    "an order is among values of one type": [
        ({"$gt": 1}, {"one_and_a_half"}),
        ({"$gte": 1}, {"one", "one_and_a_half"}),
        ({"$lt": 1.5}, {"one"}),
        ({"$lte": 1.5}, {"one", "one_and_a_half"}),
        ({"$gt": "A"}, {"a"}),
        ({"$gte": "A"}, {"a", "capital_a"}),
        ({"$lt": "A"}, {"text_one", "empty_text"}),
        ({"$lte": "1"}, {"text_one", "empty_text"}),
    ],
    "one of, or an overlap of arrays": [
        ({"$in": [1.5, "1"]}, {"one_and_a_half", "text_one"}),
        ({"$in": ["b", 2, True]}, {"texts", "numbers", "numbers_back", "true"}),
        ({"$in": [None]}, {"null", "without"}),
        ({"$in": [None, 1.5]}, {"null", "without", "one_and_a_half"}),
        ({"$in": []}, set()),
        ({"$in": [["a", "b"]]}, {"texts", "lists"}),
        ({"$in": [{"b": 2, "a": 1}, {"a": 1, "b": [True]}]}, {"objects", "object"}),
        ({"$nin": [1, None]}, ALL - {"one", "numbers", "numbers_back", "null", "without"}),
        ({"$nin": []}, ALL),
    ],
    "there and not null": [
        ({"$exists": True}, ALL - {"null", "without"}),
        ({"$exists": False}, {"null", "without"}),
    ],
    "containment, recursive": [
        ({"$contains": 1}, {"numbers", "numbers_back"}),
        ({"$contains": "a"}, {"texts"}),
        ({"$contains": None}, {"nulls"}),
        ({"$contains": [2]}, {"numbers", "numbers_back"}),
        ({"$contains": [2, 1, 1]}, {"numbers", "numbers_back"}),
        (
            {"$contains": []},
            {"numbers", "numbers_back", "texts", "nothing", "lists", "objects", "nulls"},
        ),
        ({"$contains": [["b"]]}, {"lists"}),
        ({"$contains": {"a": 1}}, {"object", "objects"}),
        ({"$contains": {"b": [True]}}, {"object"}),
        ({"$contains": {"a": "1"}}, set()),
    ],
    "text in strings, and in the strings of arrays": [
        ({"$autocomplete": "A"}, {"a", "capital_a", "texts"}),
        ({"$q": "b"}, {"texts"}),
    ],
}


@pytest.mark.parametrize("cases", OPERATORS.values(), ids=OPERATORS)
async def test_an_operator_on_a_custom_field_means(
    database: Database, cases: list[tuple[Any, set[str]]]
) -> None:
    found = [(test, await having_x(database, SORTS_OF_VALUE, test)) for test, _ in cases]

    assert found == cases


async def test_dots_reach_into_objects_and_never_into_arrays(database: Database) -> None:
    people = [
        replace(A_USER, id="object", custom={"a": {"b": {"0": "x"}}}),
        replace(A_USER, id="array", custom={"a": {"b": ["x"]}}),
        replace(A_USER, id="dotted", custom={"a.b.0": "x"}),
    ]

    assert await users_found(database, people, {"a.b.0": "x"}) == {"object"}
    assert await users_found(database, people, {"a": {"b": {"0": "x"}}}) == {"object"}


@pytest.mark.parametrize(
    "key", ['say "hi"', "back\\slash", "new\nline", "a[0]", "é", "$", "' OR 1"]
)
async def test_any_key_can_be_asked_for(database: Database, key: str) -> None:
    name = f"outer.{key}" if key != "$" else "outer.$"
    people = [
        replace(A_USER, id="there", custom={"outer": {key: "x"}}),
        replace(A_USER, id="elsewhere", custom={key: "x"}),
    ]

    assert await users_found(database, people, {name: "x"}) == {"there"}
    assert await users_found(database, people, {name: {"$exists": False}}) == {"elsewhere"}


@pytest.mark.parametrize("quoted", ["'", '"', "\\", "%", "_", "?", ":x", "[", "{}", "\n"])
async def test_a_value_is_never_part_of_the_statement(database: Database, quoted: str) -> None:
    values = {"same": f"a{quoted}b", "other": "ab", "listed": [f"a{quoted}b"]}

    assert await having_x(database, values, f"a{quoted}b") == {"same", "listed"}
    assert await having_x(database, values, {"$q": quoted}) == {"same", "listed"}
    assert await having_x(database, values, {"$in": [quoted, f"a{quoted}b"]}) == {"same", "listed"}


async def test_numbers_are_equal_whole_and_by_the_last_bit(database: Database) -> None:
    values = {"sum": 0.1 + 0.2, "third": 0.3, "price": 12.34, "big": 2**53 - 1, "tiny": 5e-324}

    assert await having_x(database, values, 0.3) == {"third"}
    assert await having_x(database, values, {"$gt": 0.3, "$lt": 1}) == {"sum"}
    assert await having_x(database, values, {"$in": [12.34, float(2**53 - 1)]}) == {"price", "big"}
    assert await having_x(database, values, {"$gt": 0, "$lt": 1e-300}) == {"tiny"}


async def test_in_on_a_custom_array_is_an_overlap_in_any_order(database: Database) -> None:
    values = {"words": ["b", "a"], "numbers": [3, 4], "lists": [[1], [2]], "objects": [{"a": 1}]}

    assert await having_x(database, values, {"$in": ["z", "a"]}) == {"words"}
    assert await having_x(database, values, {"$in": [4, 9]}) == {"numbers"}
    assert await having_x(database, values, {"$in": [[2], [9]]}) == {"lists"}
    assert await having_x(database, values, {"$in": [{"a": 1}]}) == {"objects"}
    assert await having_x(database, values, {"$in": ["4", 1, True]}) == set()


@pytest.mark.parametrize(
    ("other", "dropped"), [(1, "number"), ("a", "string"), ({"a": 1}, "object"), ([1, 2], "array")]
)
async def test_ne_drops_exactly_the_one_that_is_equal(
    database: Database, other: Any, dropped: str
) -> None:
    values = {"number": 1, "string": "a", "object": {"a": 1}, "array": [1, 2][:2]}
    if dropped == "number":
        values["array"] = [2]

    found = await having_x(database, values, {"$ne": other})

    assert found == {"number", "string", "object", "array", "without"} - {dropped}


@pytest.mark.parametrize(
    "x",
    [
        {"x": 1},
        {"x": {"$gt": "a"}},
        {"x": {"$in": [[1], None]}},
        {"x": {"$contains": {}}},
        {"x": {"$q": "a"}},
        {"name": {"$lt": "z"}},
        {"name": {"$autocomplete": "a"}},
        {"last_active": {"$gte": "2026-01-31T12:00:00Z"}},
        {"team": "red"},
    ],
)
async def test_everyone_matches_a_condition_or_its_negation(
    database: Database, x: dict[str, Any]
) -> None:
    people = [
        replace(A_USER, id=name, custom={"x": value}) for name, value in SORTS_OF_VALUE.items()
    ]
    people += [replace(A_USER, id="active", name="a b", last_active=LATER), A_USER]

    matching = await users_found(database, people, x)
    others = await users_found(database, people, {"$nor": [x]})

    assert matching | others == {user.id for user in people}
    assert not matching & others
    assert len(await users_found(database, people, {"$or": [{"$nor": [x]}, x]})) == len(people)
