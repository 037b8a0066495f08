"""What is no filter is refused, and the error says where and why."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from campaign_service.wire.filter_fields import CAMPAIGN_FIELDS
from chat_store.errors import InvalidFilterError
from chat_store.filters.fields import CHANNEL_FIELDS, USER_FIELDS, Catalogue, Field, Kind
from chat_store.filters.parsing import parse_filter
from chat_store.filters.predicates import (
    AllOf,
    Compared,
    Condition,
    EqualTo,
    Includes,
    OneOf,
    Order,
    Present,
    StartsWord,
)
from segment_service.filter_fields import SEGMENT_FIELDS

SEGMENTS = Catalogue(
    [Field("id", Kind.STRING), Field("size", Kind.NUMBER), Field("all_users", Kind.BOOL)],
    allow_custom=False,
)
NESTED_20: dict[str, Any] = {"a": 1}
for _ in range(19):
    NESTED_20 = {"$and": [NESTED_20]}
DEEP_VALUE: Any = 1
for _ in range(21):
    DEEP_VALUE = [DEEP_VALUE]

OF_1_MB = {"a": "x" * (2**20 - len('{"a":""}'))}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        # operators
        ({"age": {"$like": 1}}, "filter.age.$like"),
        ({"$xor": [{"a": 1}]}, "filter.$xor"),
        ({"$eq": 1}, "filter.$eq"),
        ({"age": {"$gt": 1, "lt": 2}}, "filter.age.lt"),
        ({"$and": [{"a": 1}, {"age": {"$im": [3]}}]}, "filter.$and[1].age.$im"),
        ({"banned": {"$gt": True}}, "filter.banned.$gt"),
        ({"teams": {"$gte": "red"}}, "filter.teams.$gte"),
        ({"name": {"$contains": "a"}}, "filter.name.$contains"),
        ({"created_at": {"$q": "2026"}}, "filter.created_at.$q"),
        # connectives
        ({"$and": []}, "filter.$and"),
        ({"$or": []}, "filter.$or"),
        ({"$nor": []}, "filter.$nor"),
        ({"$or": {"a": 1}}, "filter.$or"),
        ({"$or": [{"a": 1}, "b"]}, "filter.$or[1]"),
        ({"$nor": [{"$or": [{"a": 1}, {"$and": []}]}]}, "filter.$nor[0].$or[1].$and"),
        # operands of built-in fields
        ({"id": 5}, "filter.id"),
        ({"id": {"$eq": 5}}, "filter.id.$eq"),
        ({"id": {"$ne": True}}, "filter.id.$ne"),
        ({"id": {"$gt": None}}, "filter.id.$gt"),
        ({"id": {"$in": ["a", 5]}}, "filter.id.$in[1]"),
        ({"name": {"first": "a"}}, "filter.name"),
        ({"name": ["a"]}, "filter.name"),
        ({"banned": "true"}, "filter.banned"),
        ({"banned": 1}, "filter.banned"),
        ({"teams": 1}, "filter.teams"),
        ({"teams": ""}, "filter.teams"),
        ({"team": ""}, "filter.team"),
        ({"teams": ["red", 1]}, "filter.teams[1]"),
        ({"teams": {"$in": [["red"]]}}, "filter.teams.$in[0]"),
        ({"teams": {"$contains": None}}, "filter.teams.$contains"),
        ({"created_at": 1790000000}, "filter.created_at"),
        ({"created_at": "2026-01-31"}, "filter.created_at"),
        ({"created_at": "2026-01-31T12:00:00"}, "filter.created_at"),
        ({"created_at": "2026-02-30T12:00:00Z"}, "filter.created_at"),
        ({"created_at": "0001-01-01T00:00:00+01:00"}, "filter.created_at"),
        ({"created_at": "२०२६-01-31T12:00:00Z"}, "filter.created_at"),
        ({"created_at": {"$lt": "yesterday"}}, "filter.created_at.$lt"),
        ({"$or": [{"last_active": {"$in": ["now"]}}]}, "filter.$or[0].last_active.$in[0]"),
        # $in, $nin, $exists
        ({"$and": [{"a": 1}, {"age": {"$in": 3}}]}, "filter.$and[1].age.$in"),
        ({"age": {"$nin": "abc"}}, "filter.age.$nin"),
        ({"age": {"$in": {"a": 1}}}, "filter.age.$in"),
        ({"age": {"$exists": 1}}, "filter.age.$exists"),
        ({"age": {"$exists": "true"}}, "filter.age.$exists"),
        ({"age": {"$exists": None}}, "filter.age.$exists"),
        # orders of custom fields
        ({"age": {"$gt": True}}, "filter.age.$gt"),
        ({"age": {"$lte": [1]}}, "filter.age.$lte"),
        ({"age": {"$lt": None}}, "filter.age.$lt"),
        # text
        ({"name": {"$autocomplete": ""}}, "filter.name.$autocomplete"),
        ({"name": {"$autocomplete": " -_!"}}, "filter.name.$autocomplete"),
        ({"name": {"$autocomplete": "\u0301"}}, "filter.name.$autocomplete"),
        ({"name": {"$autocomplete": 1}}, "filter.name.$autocomplete"),
        ({"name": {"$q": ""}}, "filter.name.$q"),
        ({"name": {"$q": "a" * 1001}}, "filter.name.$q"),
        ({"name": {"$q": ["a"]}}, "filter.name.$q"),
        # numbers
        ({"age": math.nan}, "filter.age"),
        ({"age": {"$gt": math.inf}}, "filter.age.$gt"),
        ({"age": {"$in": [1, -math.inf]}}, "filter.age.$in[1]"),
        ({"age": 2**53}, "filter.age"),
        ({"age": -(2.0**53) - 2}, "filter.age"),
        ({"age": {"$contains": [{"n": 1e300}]}}, "filter.age.$contains[0].n"),
        # strings and names that nothing stored can have
        ({"a": "x\0"}, "filter.a"),
        ({"id": "\ud800"}, "filter.id"),
        ({"a": {"b": ["\udfff"]}}, "filter.a.b[0]"),
        ({"a\0": 1}, "filter"),
        ({"$or": [{"\ud800": 1}]}, "filter.$or[0]"),
        ({"a": {"b": {"c\0": 1}}}, "filter.a.b"),
        ({"a": {"$\0": 1}}, "filter.a"),
        ({"": 1}, "filter."),
        ({"a..b": 1}, "filter.a..b"),
        ({"a.": 1}, "filter.a."),
        ({".".join("a" * 21): 1}, f"filter.{'.'.join('a' * 21)}"),
        # operators inside of values
        ({"address": {"city": {"$eq": "Bonn"}}}, "filter.address.city.$eq"),
        ({"a": {"$in": [{"$gt": 1}]}}, "filter.a.$in[0].$gt"),
        # sizes
        ({"$and": [NESTED_20]}, "filter" + ".$and[0]" * 20),
        ({"a": DEEP_VALUE}, "filter.a" + "[0]" * 21),
        ({"$or": [{"a": 1}] * 251}, "filter.$or[250].a"),
        ({"$or": [{"a": {"$gt": 1, "$lt": 2}}] * 126}, "filter.$or[125].a.$gt"),
        # an empty object is no condition
        ({"$and": [{}]}, "filter.$and[0]"),
        ({"$and": [{"a": 1}, {}]}, "filter.$and[1]"),
        ({"$or": [{"$nor": [{}]}]}, "filter.$or[0].$nor[0]"),
        ({"team": {}}, "filter.team"),
        ({"teams": {}}, "filter.teams"),
        ({"a": {}}, "filter.a"),
        ({"a.b": {"$eq": {}}}, "filter.a.b.$eq"),
        ({"a": {"$ne": {}}}, "filter.a.$ne"),
        ({"name": {}}, "filter.name"),
        # these depend on who asks
        ({"online": True}, "filter.online"),
        ({"$or": [{"a": 1}, {"invisible": {"$exists": True}}]}, "filter.$or[1].invisible"),
        ({"a": {"$in": [1] * 10_001}}, "filter.a.$in"),
        ({"$or": [{"id": {"$nin": ["a"] * 10_001}}]}, "filter.$or[0].id.$nin"),
        ({"a": [1] * 10_001}, "filter.a"),
        ({"a": {"$contains": {"b": [1] * 10_001}}}, "filter.a.$contains.b"),
        ({"a": {"$in": [[1] * 10_001]}}, "filter.a.$in[0]"),
        ({"teams": ["red"] * 10_001}, "filter.teams"),
        ({"teams": {"$contains": ["red"] * 10_001}}, "filter.teams.$contains"),
        (OF_1_MB | {"b": 1}, "filter"),
        ({"a" * 5121: 1}, "filter." + "a" * 5121),
    ],
)
def test_a_mistake_is_refused_at_its_path(document: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidFilterError) as refused:
        parse_filter(document, USER_FIELDS)

    assert refused.value.field == path
    assert refused.value.problem


def test_the_path_begins_where_the_caller_says() -> None:
    with pytest.raises(InvalidFilterError) as refused:
        parse_filter({"id": 1}, USER_FIELDS, path="segment.filter")

    assert refused.value.field == "segment.filter.id"


@pytest.mark.parametrize("name", ["country", "id.x", "custom"])
def test_without_custom_fields_an_unknown_one_is_refused(name: str) -> None:
    with pytest.raises(InvalidFilterError) as refused:
        parse_filter({"$or": [{"id": "a"}, {name: 1}]}, SEGMENTS)

    assert refused.value.field == f"filter.$or[1].{name}"


@pytest.mark.parametrize(
    "document",
    [
        NESTED_20,
        {"$or": [{"a": 1}] * 250},
        {"a": 2**53 - 1},
        {"a": 1 - 2.0**53},
        {"a": {"$in": []}},
        {"a": {"$eq": DEEP_VALUE[0]}},
        {".".join("a" * 20): 1},
        {"name": {"$q": "a" * 1000}},
        {"a": {"$in": [1] * 10_000}},
        {"teams": {"$contains": ["red"] * 10_000}},
        OF_1_MB,
        {"a" * 5120: 1},
    ],
)
def test_what_is_just_within_the_limits_is_a_filter(document: dict[str, Any]) -> None:
    parse_filter(document, USER_FIELDS)


AGE = Field("age", Kind.CUSTOM)
CREATED_AT = Field("created_at", Kind.DATE)
NAME = Field("name", Kind.STRING)


def test_a_bare_value_means_equal_and_sits_at_its_field() -> None:
    assert parse_filter({"age": 30.0}, USER_FIELDS) == Condition("filter.age", AGE, EqualTo(30))


def test_a_whole_double_becomes_an_int_at_any_depth() -> None:
    condition = parse_filter({"age": {"$eq": {"a": [1.0, 1.5]}}}, USER_FIELDS)

    assert condition == Condition("filter.age.$eq", AGE, EqualTo({"a": [1, 1.5]}))
    assert repr(condition).endswith("EqualTo(value={'a': [1, 1.5]}), negated=False)")


def test_several_operators_of_a_field_and_several_fields_must_all_hold() -> None:
    found = parse_filter({"age": {"$gte": 1, "$lt": 2}, "name": "a"}, USER_FIELDS)

    assert found == AllOf(
        "filter",
        (
            Condition("filter.age.$gte", AGE, Compared(Order.GREATER_OR_EQUAL, 1)),
            Condition("filter.age.$lt", AGE, Compared(Order.LESS, 2)),
            Condition("filter.name", NAME, EqualTo("a")),
        ),
    )


def test_null_means_missing() -> None:
    assert parse_filter({"age": None}, USER_FIELDS) == Condition(
        "filter.age", AGE, Present(), negated=True
    )
    assert parse_filter({"age": {"$in": [1, None]}}, USER_FIELDS) == Condition(
        "filter.age.$in", AGE, OneOf((1,), or_missing=True)
    )


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.5+01:00", datetime(2026, 1, 31, 11, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456789Z", datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-01-31T12:00:00-00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_dates_of_built_in_fields_are_moments(written: str, moment: datetime) -> None:
    condition = parse_filter({"created_at": {"$lt": written}}, USER_FIELDS)

    assert condition == Condition("filter.created_at.$lt", CREATED_AT, Compared(Order.LESS, moment))


def test_dates_of_custom_fields_are_strings() -> None:
    condition = parse_filter({"age": {"$lt": "2026-01-31T12:00:00Z"}}, USER_FIELDS)

    assert condition == Condition(
        "filter.age.$lt", AGE, Compared(Order.LESS, "2026-01-31T12:00:00Z")
    )


def test_searched_text_is_folded_and_trimmed_to_its_words() -> None:
    assert parse_filter({"name": {"$autocomplete": " @Rover-CUR! "}}, USER_FIELDS) == Condition(
        "filter.name.$autocomplete", NAME, StartsWord("rover-cur")
    )
    assert parse_filter({"name": {"$q": " ÉCOLE! "}}, USER_FIELDS) == Condition(
        "filter.name.$q", NAME, Includes(" école! ")
    )


@pytest.mark.parametrize("name", ["hidden", "joined", "muted", "archived", "pinned", "has_unread"])
def test_a_channels_field_that_depends_on_who_asks_is_refused(name: str) -> None:
    for condition in (True, {"$eq": False}, {"$exists": True}):
        with pytest.raises(InvalidFilterError) as refused:
            parse_filter({name: condition}, CHANNEL_FIELDS)
        assert refused.value.field == f"filter.{name}"
        assert "depends on who asks" in refused.value.problem
    # inside an object of one's own it is a name like any other
    assert isinstance(parse_filter({f"settings.{name}": True}, CHANNEL_FIELDS), Condition)


@pytest.mark.parametrize("catalogue", [CAMPAIGN_FIELDS, SEGMENT_FIELDS], ids=["status", "type"])
def test_a_word_that_an_enumeration_does_not_have_is_refused_with_those_it_has(
    catalogue: Catalogue,
) -> None:
    name = "status" if catalogue is CAMPAIGN_FIELDS else "type"
    words = catalogue.find(name).words
    assert isinstance(parse_filter({name: {"$in": [*words, None]}}, catalogue), Condition)
    for wrong in (words[0].upper(), "", "done", f"{words[0]} "):
        conditions = {
            f"filter.{name}": wrong,
            f"filter.{name}.$eq": {"$eq": wrong},
            f"filter.{name}.$ne": {"$ne": wrong},
            f"filter.{name}.$in[1]": {"$in": [words[0], wrong]},
            f"filter.{name}.$nin[0]": {"$nin": [wrong]},
        }
        for path, condition in conditions.items():
            with pytest.raises(InvalidFilterError) as refused:
                parse_filter({name: condition}, catalogue)
            assert refused.value.field == path
            assert ", ".join(words) in refused.value.problem


def test_an_empty_document_matches_everything() -> None:
    assert parse_filter({}, USER_FIELDS) == AllOf("filter", ())
