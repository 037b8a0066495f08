"""What filters find among users and channels, by their built-in fields and together."""

from dataclasses import replace
from typing import Any

from chat_store.database.engine import Database
from chat_store.models import Channel
from tests.chat_store.finding import (
    A_CHANNEL,
    A_USER,
    LATER,
    Named,
    channels_found,
    users_found,
)


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


async def test_exists_splits_in_two(database: Database) -> None:
    half = [replace(A_USER, id=f"with{n}", custom={"x": n}) for n in range(5)]
    people = [*half, *(replace(A_USER, id=f"without{n}") for n in range(5))]

    assert len(await users_found(database, people, {"x": {"$exists": True}})) == 5
    assert len(await users_found(database, people, {"x": {"$exists": False}})) == 5
    assert await users_found(database, people, {"id": {"$exists": False}}) == set()


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


async def test_members_of_one_name_count_as_one_name(database: Database) -> None:
    given: dict[str, tuple[Channel, Named]] = {
        "namesakes": (A_CHANNEL, {"ann": "Ann", "anne": "Ann"}),
        "others": (A_CHANNEL, {"bo": "Bo", "ann": "Ann"}),
    }

    for test in ({"$contains": ["Ann", "Ann"]}, {"$ne": ["Bo", "Bo"]}):
        found = await channels_found(database, given, {"member.user.name": test})
        assert found == {"namesakes", "others"}
    assert await channels_found(database, given, {"member.user.name": ["Ann"]}) == {"namesakes"}


async def test_a_filter_on_channels_finds(database: Database) -> None:
    found = [(test, await channels_found(database, CHANNELS, test)) for test, _ in CHANNEL_FILTERS]

    assert found == CHANNEL_FILTERS
