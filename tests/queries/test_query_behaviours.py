"""What the original's own tests show of its queries, held against ours."""

from typing import Any

import pytest

from chat_store.models import Member
from herald.chat.v1 import chat_service_pb2 as pb
from tests.queries.query_clients import QueryClients, person
from tests.segment.refusals import CODES, refused

TEN = [f"user-{number}" for number in range(10)]


async def test_users_come_newest_first_and_a_page_of_two_follows_a_page_of_one(
    clients: QueryClients,
) -> None:
    """There is no offset: pages are by token, which holds for any page size."""
    await clients.given(person("b", minute=2), person("a", minute=1), person("c", minute=3))

    first = await clients.chat.QueryUsers(pb.QueryUsersRequest(page_size=1))
    second = await clients.chat.QueryUsers(
        pb.QueryUsersRequest(page_size=2, page_token=first.next_page_token)
    )

    assert [[user.id for user in page.users] for page in (first, second)] == [["c"], ["b", "a"]]


async def test_deactivated_users_are_absent_unless_they_are_asked_for(
    clients: QueryClients,
) -> None:
    await clients.given(person("anna"), person("bert"))
    await clients.chat.DeactivateUsers(pb.DeactivateUsersRequest(ids=["bert"]))

    assert await clients.users({}) == ["anna"]
    assert await clients.users({}, include_deactivated=True) == ["anna", "bert"]


async def test_custom_equality_finds_all_ten_and_an_id_range_narrows_them(
    clients: QueryClients,
) -> None:
    await clients.given(*(person(id_, custom={"batch": "x"}) for id_ in TEN), person("user-other"))

    assert await clients.users({"batch": "x"}) == TEN
    both = {"$and": [{"batch": "x"}, {"id": {"$gte": "user-7"}}]}
    assert await clients.users(both) == ["user-7", "user-8", "user-9"]


async def test_null_teams_are_of_the_teamless_and_in_finds_any_overlap(
    clients: QueryClients,
) -> None:
    await clients.given(person("anna", teams=["red", "blue"]), person("bert"))

    assert await clients.users({"teams": None}) == ["bert"]
    assert await clients.users({"teams": {"$in": ["blue", "green"]}}) == ["anna"]


async def test_an_empty_team_is_refused_at_its_field(clients: QueryClients) -> None:
    refusal = await refused(clients.users({"teams": ""}))

    assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "INVALID_FILTER")
    assert refusal.fields == ("filter.teams",)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("ro", ["curiosity", "roxanne", "roxy"]),
        ("rove", ["curiosity"]),
        ("RoX", ["roxanne", "roxy"]),
    ],
)
async def test_autocomplete_over_name_and_username_finds_the_beginnings_of_words(
    clients: QueryClients, typed: str, found: list[str]
) -> None:
    await clients.given(
        person("roxy", name="Roxy"),
        person("roxanne", name="Roxanne"),
        person("curiosity", name="Curiosity", username="rover_curiosity"),
        person("hero", name="Hero"),
    )
    either = [{name: {"$autocomplete": typed}} for name in ("name", "username")]

    assert await clients.users({"$or": either}) == found


async def test_a_string_in_place_of_a_list_is_refused_at_its_operator(
    clients: QueryClients,
) -> None:
    refusal = await refused(clients.users({"id": {"$in": "anna"}}))

    assert (refusal.code, refusal.fields) == (CODES.INVALID_ARGUMENT, ("filter.id.$in",))


@pytest.mark.parametrize(
    "wanted",
    [["b", "a"], ["x", "b"], [[2, 3], "x"], [{"deep": [1]}]],
    ids=["in another order", "one of two", "a nested list", "a nested object"],
)
async def test_in_on_a_custom_list_is_an_overlap(clients: QueryClients, wanted: list[Any]) -> None:
    await clients.given(
        person("anna", custom={"tags": ["a", "b", [2, 3], {"deep": [1]}]}),
        person("bert", custom={"tags": ["c", [3, 2], {"deep": [2]}]}),
    )

    assert await clients.users({"tags": {"$in": wanted}}) == ["anna"]


async def test_exists_splits_ten_users_five_and_five(clients: QueryClients) -> None:
    await clients.given(
        *(person(id_, custom={"age": 1} if n < 5 else {}) for n, id_ in enumerate(TEN))
    )

    assert await clients.users({"age": {"$exists": True}}) == TEN[:5]
    assert await clients.users({"age": {"$exists": False}}) == TEN[5:]


async def test_no_channel_is_without_a_cid(clients: QueryClients) -> None:
    await clients.given_channels(general=[])

    assert await clients.channels({"cid": {"$exists": False}}) == []
    assert await clients.channels({"cid": {"$exists": True}}) == ["general"]


@pytest.mark.parametrize("value", [1, "text", {"a": {"b": 1}}, ["a", {"b": 1}]])
async def test_ne_drops_exactly_the_one_that_is_equal(clients: QueryClients, value: Any) -> None:
    values = {"equal": value, "number": 2, "string": "other", "object": {"a": 1}}
    await clients.given(*(person(id_, custom={"x": held}) for id_, held in values.items()))

    assert await clients.users({"x": {"$ne": value}}) == ["number", "object", "string"]


async def test_members_nin_finds_the_channels_without_them(clients: QueryClients) -> None:
    await clients.given(person("anna"), person("bert"), person("carl"))
    await clients.given_channels(one=["anna"], two=["anna", "bert"], three=["carl"])

    assert await clients.channels({"members": {"$nin": ["anna"]}}) == ["three"]
    assert await clients.channels({"members": {"$nin": ["bert", "carl"]}}) == ["one"]


async def test_what_matches_and_what_does_not_are_all_together(clients: QueryClients) -> None:
    await clients.given(*(person(id_) for id_ in TEN))
    some = {"id": {"$in": TEN[:3]}}

    assert await clients.users({"$or": [{"$nor": [some]}, some]}) == TEN


async def test_a_channel_that_a_member_hid_is_found_for_the_query_is_no_members(
    clients: QueryClients,
) -> None:
    """The original asks for the caller, ours for everyone: `hidden` is told of each member."""
    await clients.given(person("anna"), person("bert"))
    await clients.given_channels(general=["bert"])
    cid = "messaging:general"
    hiding = Member(cid=cid, user_id="anna", hidden=True)
    await clients.segments.chat.channels.add_members(cid, [hiding], clients.segments.clock())

    assert await clients.channels({"members": {"$in": ["anna"]}}) == ["general"]
    members = (await clients.chat.QueryMembers(pb.QueryMembersRequest(cid=cid))).members
    assert {member.user_id: member.hidden for member in members} == {"anna": True, "bert": False}
