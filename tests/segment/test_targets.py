"""Who is in a segment: evaluated, asked one by one, listed in pages, counted, explained."""

from typing import Any

import pytest

from chat_store.models import User
from herald.chat.v1.sort_pb2 import SORT_DIRECTION_DESC, Sort
from herald.segment.v1.segment_pb2 import ClauseExplanation, Segment
from herald.segment.v1.segment_service_pb2 import ExplainTargetRequest, ExplainTargetResponse
from herald_rpc.wire.structs import to_struct, to_value
from tests.segment.refusals import CODES, refused
from tests.segment.segment_server import CHANNEL, USER, SegmentServer

pytestmark = pytest.mark.nightly_on("postgres")


async def explained(
    service: SegmentServer, id_: str, target_id: str, sender_id: str = ""
) -> ExplainTargetResponse:
    return await service.stub.ExplainTarget(
        ExplainTargetRequest(segment_id=id_, target_id=target_id, sender_id=sender_id)
    )


async def people_of_two_countries(service: SegmentServer) -> None:
    await service.people(["anna", "bert"], country="USA")
    await service.people(["carl", "dora"], country="DE")


async def test_a_filter_holds_those_who_match_now(service: SegmentServer) -> None:
    await people_of_two_countries(service)
    id_ = await service.matching({"country": "USA"})

    await service.people(["bert"], country="FR")
    await service.people(["carl"], country="USA")

    assert await service.targets(id_) == ["anna", "carl"]


async def test_all_users_are_all_users(service: SegmentServer) -> None:
    await people_of_two_countries(service)

    assert await service.targets(await service.all_users()) == ["anna", "bert", "carl", "dora"]


async def test_deactivated_and_deleted_users_are_in_no_evaluated_segment(
    service: SegmentServer,
) -> None:
    await service.people(["anna", "bert", "carl"], country="USA")
    await service.chat.users.deactivate(["anna"], service.clock())
    await service.chat.users.delete(["bert"], service.clock())
    everyone, matching = await service.all_users(), await service.matching({"country": "USA"})

    for id_ in (everyone, matching):
        assert await service.targets(id_) == ["carl"]
        assert await service.count(id_) == 1
        assert [await service.exists(id_, name) for name in ("anna", "bert", "carl")] == [
            False,
            False,
            True,
        ]


async def test_a_list_has_whom_it_lists_existing_or_not(service: SegmentServer) -> None:
    await service.people(["anna", "bert"])
    await service.chat.users.delete(["bert"], service.clock())
    id_ = await service.listing("anna", "bert", "nobody")

    assert await service.targets(id_) == ["anna", "bert", "nobody"]
    assert await service.exists(id_, "nobody")


async def test_a_channel_filter_holds_channels_that_are_not_deleted(service: SegmentServer) -> None:
    await service.channel("messaging:a", ["anna"], team="red")
    await service.channel("messaging:b", ["anna"], team="red")
    await service.channel("messaging:c", ["bert"], team="red")
    await service.chat.channels.delete(["messaging:a"], service.clock())

    by_team = await service.matching({"team": "red"}, CHANNEL)
    by_member = await service.matching({"members": {"$in": ["anna"]}}, CHANNEL)

    assert await service.targets(by_team) == ["messaging:b", "messaging:c"]
    assert await service.targets(by_member) == ["messaging:b"]
    assert await service.targets(by_team, by_member) == ["messaging:b", "messaging:c"]


async def test_a_senders_channels_are_those_that_the_sender_is_a_member_of(
    service: SegmentServer,
) -> None:
    await service.channel("messaging:b", ["anna", "bert"])
    await service.channel("messaging:a", ["anna"])
    await service.channel("messaging:c", ["bert"])
    await service.channel("messaging:d", ["anna"])
    await service.chat.channels.delete(["messaging:d"], service.clock())
    id_ = await service.senders_channels()

    assert await service.targets(id_, sender_id="anna") == ["messaging:a", "messaging:b"]
    assert await service.targets(id_, sender_id="bert") == ["messaging:b", "messaging:c"]
    assert await service.count(id_, sender_id="anna") == 2
    assert await service.exists(id_, "messaging:a", sender_id="anna")
    assert not await service.exists(id_, "messaging:a", sender_id="bert")
    assert not await service.exists(id_, "messaging:d", sender_id="anna")
    listed = await service.query_targets(id_, sender_id="bert")
    assert [target.target_id for target in listed.targets] == ["messaging:b", "messaging:c"]


async def test_an_unknown_sender_has_no_channels_and_a_deleted_one_keeps_them(
    service: SegmentServer,
) -> None:
    await service.channel("messaging:a", ["anna"])
    await service.chat.users.delete(["anna"], service.clock())
    id_ = await service.senders_channels()

    assert await service.targets(id_, sender_id="nobody") == []
    assert await service.targets(id_, sender_id="anna") == ["messaging:a"]


async def test_other_segments_ignore_the_sender(service: SegmentServer) -> None:
    id_ = await service.listing("anna")

    assert await service.exists(id_, "anna", sender_id="nobody")
    assert await service.count(id_, sender_id="nobody") == 1


async def test_an_id_is_in_a_segment_as_a_whole_and_with_its_case(service: SegmentServer) -> None:
    id_ = await service.listing("Anna")

    found = [await service.exists(id_, name) for name in ("Anna", "anna", "Ann", "Anna ")]
    assert found == [True, False, False, False]


async def test_each_target_of_several_segments_is_counted_once(service: SegmentServer) -> None:
    await people_of_two_countries(service)
    segments = [
        await service.matching({"country": "USA"}),
        await service.matching({"id": {"$in": ["bert", "carl"]}}),
        await service.listing("carl", "zoe"),
        await service.listing("zoe"),
    ]

    assert await service.count(*segments) == 4
    assert await service.count(*segments, *segments) == 4
    assert await service.count(await service.all_users(), *segments) == 5
    assert await service.count(segments[3]) == 1


async def test_twenty_five_segments_are_asked_together(service: SegmentServer) -> None:
    await service.people(f"user-{number:02}" for number in range(12))
    segments = [
        await service.listing(f"user-{number:02}", "everywhere") for number in range(13)
    ] + [await service.matching({"id": f"user-{number:02}"}) for number in range(12)]

    assert await service.count(*segments) == 14
    expected = ["everywhere", *(f"user-{number:02}" for number in range(13))]
    assert await service.targets(*segments) == expected


async def test_targets_of_a_list_come_with_the_time_they_were_added_others_without(
    service: SegmentServer,
) -> None:
    await service.people(["anna"])

    listed = await service.query_targets(await service.listing("anna"))
    evaluated = await service.query_targets(await service.all_users())

    assert listed.targets[0].HasField("created_at")
    assert not evaluated.targets[0].HasField("created_at")


QUERIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "equal": ({"target_id": "b"}, ["b"]),
    "equal by operator": ({"target_id": {"$eq": "b"}}, ["b"]),
    "one of": ({"target_id": {"$in": ["d", "a", "x"]}}, ["a", "d"]),
    "after": ({"target_id": {"$gt": "b"}}, ["c", "d", "é"]),
    "from": ({"target_id": {"$gte": "b"}}, ["b", "c", "d", "é"]),
    "before": ({"target_id": {"$lt": "b"}}, ["B", "a"]),
    "up to": ({"target_id": {"$lte": "b"}}, ["B", "a", "b"]),
    "between": ({"target_id": {"$gt": "a", "$lt": "d"}}, ["b", "c"]),
    "either end": ({"$or": [{"target_id": {"$lt": "a"}}, {"target_id": "é"}]}, ["B", "é"]),
    "but one": ({"$nor": [{"target_id": "b"}]}, ["B", "a", "c", "d", "é"]),
}


@pytest.mark.parametrize("kind", ["list", "filter", "all users"])
@pytest.mark.parametrize(("filter_", "expected"), QUERIES.values(), ids=QUERIES)
async def test_targets_are_found_by_their_ids(
    service: SegmentServer, kind: str, filter_: dict[str, Any], expected: list[str]
) -> None:
    ids = ["B", "a", "b", "c", "d", "é"]
    await service.people(ids, country="USA")
    if kind == "list":
        id_ = await service.listing(*ids)
    else:
        id_ = await (
            service.all_users() if kind == "all users" else service.matching({"country": "USA"})
        )

    response = await service.query_targets(id_, filter=to_struct(filter_))

    assert [target.target_id for target in response.targets] == expected


@pytest.mark.parametrize("kind", ["list", "filter", "channels", "senders channels"])
@pytest.mark.parametrize("down", [False, True], ids=["ascending", "descending"])
async def test_pages_of_targets_forth_and_back_are_the_whole_in_bytewise_order(
    service: SegmentServer, kind: str, *, down: bool
) -> None:
    names = ["Zoe", "anna", "Émile", "bert", "émile", "🦉", "b", "Z"]
    if kind in {"list", "filter"}:
        await service.people(names)
        id_ = await (
            service.listing(*names)
            if kind == "list"
            else service.matching({"created_at": {"$exists": True}})
        )
    else:
        names = [f"messaging:{name}" for name in names]
        for name in names:
            await service.channel(name, ["anna"])
        id_ = await (
            service.matching({"type": "messaging"}, CHANNEL)
            if kind == "channels"
            else service.senders_channels()
        )
    whole = sorted(names, key=str.encode, reverse=down)
    sort = [Sort(field="target_id", direction=SORT_DIRECTION_DESC)] if down else []

    forth, token = [], ""
    while True:
        page = await service.query_targets(
            id_, sort=sort, page_size=3, page_token=token, sender_id="anna"
        )
        forth += [target.target_id for target in page.targets]
        token = page.next_page_token
        if not token:
            break
    back = [target.target_id for target in page.targets]
    while page.prev_page_token:
        page = await service.query_targets(
            id_, sort=sort, page_size=3, page_token=page.prev_page_token, sender_id="anna"
        )
        back = [target.target_id for target in page.targets] + back

    assert forth == back == whole


async def test_targets_that_come_and_go_between_pages_move_no_others(
    service: SegmentServer,
) -> None:
    id_ = await service.listing("b", "d", "f", "h")
    first = await service.query_targets(id_, page_size=2)
    await service.add(id_, "a", "e")
    await service.remove(id_, "b", "f")

    second = await service.query_targets(id_, page_size=9, page_token=first.next_page_token)

    assert [target.target_id for target in second.targets] == ["e", "h"]


@pytest.mark.parametrize(
    "other",
    [
        {"filter": to_struct({"target_id": {"$gt": "a"}})},
        {"sort": [Sort(field="target_id", direction=SORT_DIRECTION_DESC)]},
        {"sender_id": "anna"},
        {"segment_id": "other"},
    ],
    ids=["filter", "sort", "sender_id", "segment_id"],
)
async def test_a_page_token_of_targets_is_bound_to_the_other_arguments(
    sqlite_service: SegmentServer, other: dict[str, Any]
) -> None:
    id_ = await sqlite_service.listing("a", "b")
    await sqlite_service.listing("a", "b", id_="other")
    token = (await sqlite_service.query_targets(id_, page_size=1)).next_page_token
    asked = {"id_": other.pop("segment_id", id_), **other}

    refusal = await refused(sqlite_service.query_targets(**asked, page_token=token))

    assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
    assert refusal.fields == ("page_token",)


async def test_pages_of_targets_have_25_unless_told_otherwise_and_10000_at_most(
    sqlite_service: SegmentServer,
) -> None:
    id_ = await sqlite_service.listing(*(f"user-{number}" for number in range(10_000)))
    await sqlite_service.add(id_, "one more")

    sizes = [
        len((await sqlite_service.query_targets(id_, page_size=size)).targets)
        for size in (0, 10_000, 2**31 - 1)
    ]

    assert sizes == [25, 10_000, 10_000]


@pytest.mark.nightly
async def test_a_page_of_very_long_ids_is_shorter_to_stay_receivable(
    sqlite_service: SegmentServer,
) -> None:
    ids = sorted("🦉" * 250 + f"{number:05}" for number in range(4_500))
    id_ = await sqlite_service.listing(*ids[:3_000])
    await sqlite_service.add(id_, *ids[3_000:])

    first = await sqlite_service.query_targets(id_, page_size=10_000)
    second = await sqlite_service.query_targets(
        id_, page_size=10_000, page_token=first.next_page_token
    )

    assert [target.target_id for target in (*first.targets, *second.targets)] == ids
    assert 1_000 < len(first.targets) < 4_500


async def test_an_explanation_tells_each_clause_with_what_it_saw(service: SegmentServer) -> None:
    await service.users(User(id="anna", name="Anna", custom={"age": 28, "country": "USA"}))
    id_ = await service.matching(
        {
            "$and": [
                {"country": "USA"},
                {"age": {"$gte": 30}},
                {"$nor": [{"name": {"$q": "ann"}}]},
                {"nickname": {"$exists": True}},
                {"created_at": {"$lt": "2027-01-01T00:00:00Z"}},
            ]
        }
    )

    explanation = await explained(service, id_, "anna")

    assert explanation == ExplainTargetResponse(
        exists=False,
        clauses=[
            ClauseExplanation(path="filter.$and[0].country", held=True, seen=to_value("USA")),
            ClauseExplanation(path="filter.$and[1].age.$gte", held=False, seen=to_value(28)),
            ClauseExplanation(
                path="filter.$and[2].$nor[0].name.$q", held=True, seen=to_value("Anna")
            ),
            ClauseExplanation(path="filter.$and[3].nickname.$exists", held=False),
            ClauseExplanation(
                path="filter.$and[4].created_at.$lt",
                held=True,
                seen=to_value("2026-03-01T12:00:00Z"),
            ),
        ],
    )


async def test_a_deleted_user_may_hold_every_clause_and_still_not_be_in(
    service: SegmentServer,
) -> None:
    await service.people(["anna"], country="USA")
    await service.chat.users.delete(["anna"], service.clock())
    id_ = await service.matching({"country": "USA"})

    assert await explained(service, id_, "anna") == ExplainTargetResponse(
        exists=False,
        clauses=[ClauseExplanation(path="filter.country", held=True, seen=to_value("USA"))],
    )


async def test_a_channel_is_explained_with_its_members(service: SegmentServer) -> None:
    await service.users(User(id="anna", name="Anna"), User(id="bert"))
    await service.channel("messaging:a", ["bert", "anna"], team="red")
    id_ = await service.matching(
        {"$or": [{"members": {"$in": ["zoe"]}}, {"member.user.name": "Anna"}, {"team": "blue"}]},
        CHANNEL,
    )

    assert await explained(service, id_, "messaging:a") == ExplainTargetResponse(
        exists=True,
        clauses=[
            ClauseExplanation(
                path="filter.$or[0].members.$in", held=False, seen=to_value(["anna", "bert"])
            ),
            ClauseExplanation(
                path="filter.$or[1].member.user.name", held=True, seen=to_value(["Anna"])
            ),
            ClauseExplanation(path="filter.$or[2].team", held=False, seen=to_value("red")),
        ],
    )


@pytest.mark.parametrize("type_", [USER, CHANNEL], ids=["user", "channel"])
async def test_whoever_is_not_there_has_nothing_to_explain(
    service: SegmentServer, type_: Any
) -> None:
    id_ = await service.matching({"created_at": {"$exists": False}}, type_)

    assert await explained(service, id_, "messaging:x") == ExplainTargetResponse()


async def test_without_a_filter_an_explanation_is_whether_the_target_is_in(
    service: SegmentServer,
) -> None:
    await service.channel("messaging:a", ["anna"])
    listing = await service.listing("anna")
    senders = await service.senders_channels()

    assert await explained(service, listing, "anna") == ExplainTargetResponse(exists=True)
    assert await explained(service, senders, "messaging:a", "anna") == ExplainTargetResponse(
        exists=True
    )
    assert await explained(service, senders, "messaging:a", "bert") == ExplainTargetResponse()


@pytest.mark.nightly
async def test_a_filter_of_the_largest_size_can_be_evaluated(service: SegmentServer) -> None:
    await service.people(["anna"], last=249)
    clauses = [{f"field-{number}": number} for number in range(249)]
    id_ = await service.matching({"$or": [*clauses, {"last": 249}]})

    assert await service.targets(id_) == ["anna"]


async def test_the_deepest_filter_that_a_message_can_hold_is_evaluated(
    service: SegmentServer,
) -> None:
    """Protobuf reads 100 messages inside each other, and a list in a filter's key takes five."""
    await service.people(["anna"], age=30)
    filter_: dict[str, Any] = {"age": 30}
    for _ in range(18):
        filter_ = {"$nor": [filter_]}
    id_ = await service.matching(filter_)

    assert await service.targets(id_) == ["anna"]


async def test_an_all_users_segment_is_never_of_channels_nor_the_other_way_round(
    sqlite_service: SegmentServer,
) -> None:
    users = Segment(id="s", type=CHANNEL, all_users=True)
    channels = Segment(id="s", type=USER, all_sender_channels=True)

    refusals = [await refused(sqlite_service.create(segment)) for segment in (users, channels)]

    assert [refusal.fields for refusal in refusals] == [
        ("segment.all_users",),
        ("segment.all_sender_channels",),
    ]
    assert {refusal.reason for refusal in refusals} == {"INVALID_FIELD"}
