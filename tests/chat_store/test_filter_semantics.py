"""What the operators mean: on SQLite, on PostgreSQL and for one record in memory."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import delete, event, insert, select, text

from chat_store.database import Database
from chat_store.fields import CHANNEL_FIELDS, USER_FIELDS
from chat_store.filters import parse_filter
from chat_store.matching import Clause, channel_record, explain, matches, user_record
from chat_store.models import Channel, User
from chat_store.sql_filters import CHANNEL_BINDING, USER_BINDING, where
from chat_store.tables import channels, members, users

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
    async with database.write() as connection:
        await connection.execute(delete(users))
        await connection.execute(insert(users), [_row(users, user) for user in people])
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
    async with database.write() as connection:
        for table in (users, channels, members):
            await connection.execute(delete(table))
        known = [replace(A_USER, id=user_id, name=name) for user_id, name in people.items()]
        await connection.execute(insert(users), [_row(users, user) for user in known])
        await connection.execute(insert(channels), [_row(channels, c) for c, _ in membership])
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


def _row(table: Any, record: Any) -> dict[str, Any]:
    return {column.name: getattr(record, column.name) for column in table.c}


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
        ({}, set()),
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
    values = {"sum": 0.1 + 0.2, "third": 0.3, "price": 12.34, "big": 2**53, "tiny": 5e-324}

    assert await having_x(database, values, 0.3) == {"third"}
    assert await having_x(database, values, {"$gt": 0.3, "$lt": 1}) == {"sum"}
    assert await having_x(database, values, {"$in": [12.34, float(2**53)]}) == {"price", "big"}
    assert await having_x(database, values, {"$gt": 0, "$lt": 1e-300}) == {"tiny"}


NAMES = {
    "roxy": "Roxy",
    "roxanne": "Roxanne",
    "rover": "Curiosity Rover",
    "user_name": "rover_curiosity",
    "micro": "micro",
    "school": "École",
    "decomposed": "E\u0301cole",
    "street": "STRASSE",
    "greek": "Ὀδυσσεύς",
    "turkish": "İstanbul",
    "hindi": "हिन्दी भाषा",
}


SEARCHES: list[tuple[dict[str, Any], set[str]]] = [
    ({"name": {"$autocomplete": "ro"}}, {"roxy", "roxanne", "rover", "user_name"}),
    ({"name": {"$autocomplete": "rove"}}, {"rover", "user_name"}),
    ({"name": {"$autocomplete": "CURI"}}, {"rover", "user_name"}),
    ({"name": {"$autocomplete": "curiosity ro"}}, {"rover"}),
    ({"name": {"$autocomplete": " @rox! "}}, {"roxy", "roxanne"}),
    ({"name": {"$autocomplete": "ity"}}, set()),
    ({"name": {"$autocomplete": "éc"}}, {"school"}),
    ({"name": {"$autocomplete": "e\u0301c"}}, {"decomposed"}),
    ({"name": {"$autocomplete": "cole"}}, set()),
    ({"name": {"$autocomplete": "straße"}}, set()),
    ({"name": {"$autocomplete": "ὀΔΥΣΣΕΎΣ"}}, {"greek"}),
    ({"name": {"$autocomplete": "i"}}, set()),
    ({"name": {"$autocomplete": "भा"}}, {"hindi"}),
    ({"name": {"$autocomplete": "न्दी"}}, set()),
    ({"name": {"$q": "OX"}}, {"roxy", "roxanne"}),
    ({"name": {"$q": "y r"}}, {"rover"}),
    ({"name": {"$q": "_"}}, {"user_name"}),
    ({"name": {"$q": "ÉCOLE"}}, {"school"}),
    ({"name": {"$q": "strasse"}}, {"street"}),
    ({"name": {"$q": "stanbul"}}, {"turkish"}),
]


async def test_text_is_searched_in_any_case_and_from_the_start_of_any_word(
    database: Database,
) -> None:
    people = [replace(A_USER, id=user_id, name=name) for user_id, name in NAMES.items()]
    people.append(replace(A_USER, id="nameless"))

    assert [(test, await users_found(database, people, test)) for test, _ in SEARCHES] == SEARCHES


async def test_autocomplete_over_name_and_username_finds_either(database: Database) -> None:
    people = [
        replace(A_USER, id="1", name="Roxy"),
        replace(A_USER, id="2", name="Roxanne"),
        replace(A_USER, id="3", name="Curiosity Rover", username="rover_curiosity"),
        replace(A_USER, id="4", name="Sputnik", username="mir"),
    ]

    def either(text: str) -> dict[str, Any]:
        return {"$or": [{name: {"$autocomplete": text}} for name in ("name", "username")]}

    assert await users_found(database, people, either("ro")) == {"1", "2", "3"}
    assert await users_found(database, people, either("rove")) == {"3"}


async def test_custom_equality_and_an_id_range_meet(database: Database) -> None:
    group = [replace(A_USER, id=f"u{n}", custom={"group": "g"}) for n in range(10)]
    people = [*group, replace(A_USER, id="u99", custom={"group": "other"})]

    assert await users_found(database, people, {"group": "g"}) == {user.id for user in group}
    later = {"$and": [{"group": "g"}, {"id": {"$gte": "u7"}}]}
    assert await users_found(database, people, later) == {"u7", "u8", "u9"}


TEAMS = {
    "none": A_USER,
    "red_blue": replace(A_USER, teams=("red", "blue")),
    "red": replace(A_USER, teams=("red",)),
    "custom": replace(A_USER, custom={"team": "red"}),
    "both": replace(A_USER, teams=("blue",), custom={"team": "green"}),
    "null": replace(A_USER, custom={"team": None}),
}


TEAM_FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"teams": None}, {"none", "custom", "null"}),
    ({"teams": {"$exists": True}}, {"red_blue", "red", "both"}),
    ({"teams": {"$in": ["blue", "green"]}}, {"red_blue", "both"}),
    ({"teams": {"$in": [None, "blue"]}}, {"none", "custom", "null", "red_blue", "both"}),
    ({"teams": "red"}, {"red_blue", "red"}),
    ({"teams": ["red", "blue"]}, {"red_blue"}),
    ({"teams": ["blue", "red"]}, set()),
    ({"teams": []}, {"none", "custom", "null"}),
    ({"teams": {"$ne": "red"}}, {"none", "custom", "both", "null"}),
    ({"teams": {"$contains": "red"}}, {"red_blue", "red"}),
    ({"teams": {"$contains": ["blue", "red"]}}, {"red_blue"}),
    ({"teams": {"$autocomplete": "BL"}}, {"red_blue", "both"}),
    ({"teams": {}}, set(TEAMS)),
    ({"team": "red"}, {"red_blue", "red", "custom"}),
    ({"team": {"$in": ["blue", "green"]}}, {"red_blue", "both"}),
    ({"team": {"$nin": ["blue", "green"]}}, {"none", "red", "custom", "null"}),
    ({"team": None}, {"none", "null"}),
    ({"team": {"$in": ["green", None]}}, {"none", "null", "both"}),
    ({"team": {"$ne": "red"}}, {"none", "both", "null"}),
]


async def test_a_users_team_is_among_the_teams_or_a_custom_field(database: Database) -> None:
    people = [replace(user, id=name) for name, user in TEAMS.items()]

    found = [(test, await users_found(database, people, test)) for test, _ in TEAM_FILTERS]

    assert found == TEAM_FILTERS


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


async def test_exists_splits_in_two(database: Database) -> None:
    half = [replace(A_USER, id=f"with{n}", custom={"x": n}) for n in range(5)]
    people = [*half, *(replace(A_USER, id=f"without{n}") for n in range(5))]

    assert len(await users_found(database, people, {"x": {"$exists": True}})) == 5
    assert len(await users_found(database, people, {"x": {"$exists": False}})) == 5
    assert await users_found(database, people, {"id": {"$exists": False}}) == set()


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


USER_FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"id": {"$gt": "B", "$lt": "é"}}, {"a", "b"}),
    ({"id": {"$in": ["a", "é", "nobody"]}}, {"a", "é"}),
    ({"name": {"$ne": "Ann"}}, {"B", "b", "é"}),
    ({"name": None}, {"b", "é"}),
    ({"name": {"$gt": "ann"}}, set()),
    ({"banned": True}, {"b"}),
    ({"banned": {"$in": [True, False]}}, {"a", "B", "b", "é"}),
    ({"created_at": "2026-01-31T13:00:00+01:00"}, {"a", "b"}),
    ({"created_at": {"$gt": "2026-01-31T12:00:00Z"}}, {"B", "é"}),
    ({"created_at": {"$in": ["2026-01-31T13:00:00Z"]}}, {"B", "é"}),
    ({"last_active": {"$lte": "2026-01-31T13:00:00Z"}}, {"B"}),
    ({"last_active": {"$ne": "2026-01-31T13:00:00Z"}}, {"a", "b", "é"}),
    ({"last_active": {"$exists": False}}, {"a", "b", "é"}),
    ({"$and": [{"banned": False}, {"$or": [{"id": "a"}, {"name": "Bo"}]}]}, {"a", "B"}),
    ({}, {"a", "B", "b", "é"}),
]


async def test_a_filter_on_built_in_fields_of_users_finds(database: Database) -> None:
    people = [
        replace(A_USER, id="a", name="Ann"),
        replace(A_USER, id="B", name="Bo", created_at=LATER, last_active=LATER),
        replace(A_USER, id="b", banned=True),
        replace(A_USER, id="é", created_at=LATER),
    ]

    found = [(test, await users_found(database, people, test)) for test, _ in USER_FILTERS]

    assert found == USER_FILTERS


CHANNELS: dict[str, tuple[Channel, Named]] = {
    "empty": (replace(A_CHANNEL, frozen=True), {}),
    "pair": (
        replace(A_CHANNEL, member_count=2, last_message_at=LATER, custom={"topic": "Roses"}),
        {"ann": "Ann Ames", "bo": "Bo"},
    ),
    "three": (
        replace(A_CHANNEL, type="team", member_count=3, filter_tags=("vip", "eu"), team="red"),
        {"ann": "Ann Ames", "bo": "Bo", "silent": None},
    ),
    "alone": (replace(A_CHANNEL, created_at=LATER, member_count=1), {"silent": None}),
}


CHANNEL_FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"members": "ann"}, {"pair", "three"}),
    ({"members": {"$in": ["bo", "nobody"]}}, {"pair", "three"}),
    ({"members": {"$nin": ["ann"]}}, {"empty", "alone"}),
    ({"members": {"$eq": ["bo", "ann"]}}, {"pair"}),
    ({"members": {"$ne": ["ann", "bo", "bo"]}}, {"empty", "three", "alone"}),
    ({"members": ["ann"]}, set()),
    ({"members": []}, {"empty"}),
    ({"members": {"$contains": ["silent", "ann"]}}, {"three"}),
    ({"members": {"$exists": False}}, {"empty"}),
    ({"members": {"$in": ["ann", None]}}, {"empty", "pair", "three"}),
    ({"member.user.name": "Bo"}, {"pair", "three"}),
    ({"member.user.name": {"$autocomplete": "am"}}, {"pair", "three"}),
    ({"member.user.name": {"$q": "nobody"}}, set()),
    ({"member.user.name": None}, {"empty", "alone"}),
    ({"filter_tags": {"$in": ["eu", "us"]}}, {"three"}),
    ({"filter_tags": {"$eq": ["vip", "eu"]}}, {"three"}),
    ({"cid": {"$in": ["team:three", "team:pair"]}}, {"three"}),
    ({"cid": {"$exists": False}}, set()),
    ({"type": "team", "team": "red"}, {"three"}),
    ({"team": None}, {"empty", "pair", "alone"}),
    ({"member_count": {"$gt": 1.5, "$lt": 3}}, {"pair"}),
    ({"member_count": {"$in": [1, 3.0]}}, {"alone", "three"}),
    ({"frozen": {"$ne": True}}, {"pair", "three", "alone"}),
    ({"last_updated": {"$gt": "2026-01-31T12:00:00Z"}}, {"pair", "alone"}),
    ({"last_message_at": None}, {"empty", "three", "alone"}),
    ({"topic": {"$autocomplete": "rose"}}, {"pair"}),
]


async def test_a_filter_on_channels_finds(database: Database) -> None:
    found = [(test, await channels_found(database, CHANNELS, test)) for test, _ in CHANNEL_FILTERS]

    assert found == CHANNEL_FILTERS


def test_an_explanation_goes_clause_by_clause_with_the_value_that_each_saw() -> None:
    user = replace(A_USER, id="u", teams=("red",), custom={"age": 20, "address": {"city": "Bonn"}})
    document = {
        "age": {"$gte": 30, "$lt": 40},
        "$or": [{"address.city": {"$in": ["Bonn"]}}, {"$nor": [{"name": None}]}],
        "team": {"$ne": "blue"},
        "created_at": {"$lt": "2027-01-01T00:00:00Z"},
    }

    clauses = explain(parse_filter(document, USER_FIELDS), user_record(user))

    assert clauses == [
        Clause("filter.age.$gte", held=False, seen=20),
        Clause("filter.age.$lt", held=True, seen=20),
        Clause("filter.$or[0].address.city.$in", held=True, seen="Bonn"),
        Clause("filter.$or[1].$nor[0].name", held=True, seen=None),
        Clause("filter.team.$ne", held=True, seen=["red"]),
        Clause("filter.created_at.$lt", held=True, seen=START),
    ]


@pytest.mark.parametrize(
    ("user", "seen"),
    [
        (TEAMS["none"], None),
        (TEAMS["red"], ["red"]),
        (TEAMS["custom"], "red"),
        (TEAMS["both"], [["blue"], "green"]),
    ],
)
def test_an_explanation_of_team_shows_what_there_is(user: User, seen: Any) -> None:
    [clause] = explain(parse_filter({"team": "x"}, USER_FIELDS), user_record(user))

    assert clause == Clause("filter.team", held=False, seen=seen)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
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
    async with database.write() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        await connection.execute(
            text("CREATE INDEX by_custom ON users USING gin (custom jsonb_path_ops)")
        )
        event.listen(connection.sync_connection, "before_cursor_execute", _explain, retval=True)
        plan = list(await connection.scalars(statement))
        await connection.rollback()
    assert any("Bitmap Index Scan on by_custom" in step for step in plan), plan


def _explain(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any
) -> tuple[str, Any]:
    return f"EXPLAIN {statement}", parameters


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "x"}, {"b": "y"}),
        ({"a.b": 1}, {"c.d": 2.5}),
        ({"a": True}, {"a": False}),
        ({"a": {"$in": ["x"] * 2}}, {"a": {"$in": ["y"] * 1000}}),
        ({"id": {"$in": ["x"]}}, {"id": {"$in": ["y"] * 1000}}),
        ({"a": {"$gt": 1}}, {"a": {"$gt": 1.5}}),
        ({"a": {"$contains": [1]}}, {"a": {"$contains": [{"b": 1}, 2]}}),
        ({"name": {"$autocomplete": "a"}}, {"name": {"$autocomplete": "b c"}}),
        ({"created_at": "2026-01-31T12:00:00Z"}, {"created_at": "2026-01-31T13:00:00Z"}),
    ],
)
async def test_filters_of_one_shape_are_one_statement(
    database: Database, one: dict[str, Any], other: dict[str, Any]
) -> None:
    texts = {
        str(
            where(parse_filter(document, USER_FIELDS), USER_BINDING, database.dialect).compile(
                database.engine.sync_engine
            )
        )
        for document in (one, other)
    }

    assert len(texts) == 1
