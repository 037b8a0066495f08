"""What a caller is told of one record and a filter."""

from dataclasses import replace
from typing import Any

import pytest

from chat_store.filters.fields import CHANNEL_FIELDS, USER_FIELDS
from chat_store.filters.matching import Clause, channel_record, explain, user_record
from chat_store.filters.parsing import parse_filter
from chat_store.models import User
from tests.chat_store.finding import (
    A_CHANNEL,
    A_USER,
    START,
)


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


@pytest.mark.parametrize("name", ["members", "member.user.name", "filter_tags"])
def test_an_empty_list_of_a_channel_was_not_seen_because_it_is_missing(name: str) -> None:
    [clause] = explain(parse_filter({name: "x"}, CHANNEL_FIELDS), channel_record(A_CHANNEL, (), ()))

    assert clause == Clause(f"filter.{name}", held=False, seen=None)


def test_an_empty_list_of_teams_was_not_seen_though_an_empty_custom_one_was() -> None:
    user = replace(A_USER, custom={"tags": []})
    clauses = explain(parse_filter({"teams": "x", "tags": "x"}, USER_FIELDS), user_record(user))

    assert [clause.seen for clause in clauses] == [None, []]


@pytest.mark.parametrize(
    ("user", "seen"),
    [
        (A_USER, None),
        (replace(A_USER, teams=("red",)), ["red"]),
        (replace(A_USER, custom={"team": "red"}), "red"),
        (replace(A_USER, teams=("blue",), custom={"team": "green"}), [["blue"], "green"]),
    ],
)
def test_an_explanation_of_team_shows_what_there_is(user: User, seen: Any) -> None:
    [clause] = explain(parse_filter({"team": "x"}, USER_FIELDS), user_record(user))

    assert clause == Clause("filter.team", held=False, seen=seen)
