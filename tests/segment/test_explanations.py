"""An explanation is of bounded size, and still tells the story."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_store.models import Channel, Member, User
from chat_store.store import ChannelDraft
from herald.segment.v1.segment_pb2 import ClauseExplanation
from herald.segment.v1.segment_service_pb2 import ExplainTargetRequest, ExplainTargetResponse
from herald_rpc.wire.structs import to_value
from segment_service.explanations import shown
from tests.segment.segment_server import CHANNEL, SegmentServer
from tests.segment.test_large_filters import ANSWER_BYTES, assert_others_are_answered

MEMBERS = 5_000
CLAUSES = 250


async def explained(service: SegmentServer, id_: str, target_id: str) -> ExplainTargetResponse:
    request = ExplainTargetRequest(segment_id=id_, target_id=target_id)
    return await service.stub.ExplainTarget(request)


async def test_of_many_members_the_first_ten_are_shown_and_how_many_there_are(
    service: SegmentServer,
) -> None:
    await service.channel("messaging:a", [f"user-{n:03}" for n in range(120)])
    id_ = await service.matching({"members": "user-119"}, CHANNEL)

    answer = await explained(service, id_, "messaging:a")

    first = to_value([f"user-{n:03}" for n in range(10)])
    assert list(answer.clauses) == [
        ClauseExplanation(
            path="filter.members", held=True, seen=first, seen_count=120, seen_cut=True
        )
    ]


@pytest.mark.parametrize(
    ("value", "seen", "count", "cut"),
    [
        ("a" * 200, "a" * 200, 0, False),
        ("é" * 201, "é" * 200, 201, True),
        (list(range(10)), list(range(10)), 0, False),
        (list(range(11)), list(range(10)), 11, True),
        ({f"{n}": n for n in range(11)}, {f"{n}": n for n in range(10)}, 11, True),
        ([["a" * 201]], [["a" * 200]], 0, True),
        ([[[]]], [[[]]], 0, False),
        ([[[1]]], [[[]]], 0, True),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {}}}, 0, True),
        (1.5, 1.5, 0, False),
        (True, True, 0, False),
        (None, None, 0, False),
    ],
)
def test_large_values_are_cut(value: Any, seen: Any, count: int, cut: bool) -> None:  # noqa: FBT001
    found = shown(value)

    assert (found.value, found.count, found.cut) == (seen, count, cut)


def largest_custom(random: Random) -> dict[str, Any]:
    """Some 5 KB of what takes most room in an answer."""
    letter = random.choice("a€😀")
    return random.choice(
        [
            {"x": [0] * 2_500},
            {"x": [[0] * 200] * 12},
            {"x": {f"{n}": {f"{m}": 0 for m in range(10)} for n in range(60)}},
            {"x": [letter * 100] * 12},
            {letter * 1_000: 0},
        ]
    )


def clause(random: Random, custom: dict[str, Any], member: str) -> dict[str, Any]:
    (name,) = custom
    return random.choice(
        [
            {"members": {"$in": [member, "nobody"]}},
            {"members": [member, "x"]},
            {"members": {"$contains": [member]}},
            {"members": {"$q": member[-9:]}},
            {"members": {"$autocomplete": "no such word"}},
            {"member.user.name": {"$autocomplete": "member"}},
            {name: {"$exists": True}},
            {name: {"$contains": 0}},
        ]
    )


@pytest.mark.nightly
@settings(max_examples=3)
@given(seed=st.integers(0, 2**63))
async def test_the_largest_channel_is_explained_in_an_answer_that_every_client_receives(
    service: SegmentServer, seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - no secret
    letter = random.choice("a€😀")
    members = [f"{seed}-{n:05}".ljust(255, letter) for n in range(MEMBERS)]
    custom = largest_custom(random)
    for first in range(0, MEMBERS, 1_000):
        await service.users(
            *(User(id=id_, name=f"Member {id_}"[:255]) for id_ in members[first:][:1_000])
        )
    draft = ChannelDraft(Channel(type="messaging", id=str(seed), custom=custom))
    await service.chat.channels.upsert([draft], service.clock())
    cid = f"messaging:{seed}"
    joining = [Member(cid=cid, user_id=id_) for id_ in members]
    await service.chat.channels.add_members(cid, joining, service.clock())
    clauses = [clause(random, custom, members[n]) for n in range(CLAUSES)]
    id_ = await service.matching({"$or": clauses}, CHANNEL, id_=str(seed))

    answer = await explained(service, id_, cid)

    assert answer.exists
    assert len(answer.clauses) == CLAUSES
    assert answer.ByteSize() < ANSWER_BYTES
    await assert_others_are_answered(service, explained(service, id_, cid))
