"""FilterTargets: which of the caller's targets are in the segments now."""

from collections.abc import Awaitable, Callable

import pytest

from herald.segment.v1.segment_pb2 import Segment
from herald_rpc.wire.structs import to_struct
from tests.segment.segment_server import CHANNEL, USER, SegmentServer
from tests.segment.test_segments import updated

pytestmark = pytest.mark.nightly_on("postgres")

EVERYONE = ["anna", "bert", "carl", "dora"]


async def test_given_targets_come_back_once_and_ascending_bytewise(service: SegmentServer) -> None:
    await service.people(["bert", "Zoe", "émile"], country="USA")
    segments = [
        await service.listing("anna", "bert", "nobody"),
        await service.matching({"country": "USA"}),
        await service.matching({"id": {"$gt": "a"}}),
    ]

    given = ["émile", "bert", "stranger", "Zoe", "bert", "nobody"]

    assert await service.among(given, *segments, segments[0]) == ["Zoe", "bert", "nobody", "émile"]
    assert await service.among(["stranger"], *segments) == []


async def test_given_channels_are_looked_up_in_lists_filters_and_the_senders_own(
    service: SegmentServer,
) -> None:
    await service.channel("messaging:a", ["anna"])
    await service.channel("messaging:b", ["anna", "bert"], team="red")
    await service.channel("messaging:c", ["bert"])
    segments = [
        await service.listing("messaging:x", type_=CHANNEL),
        await service.matching({"team": "red"}, CHANNEL),
        await service.senders_channels(),
    ]
    given = [f"messaging:{name}" for name in "zxcba"] + ["no cid"]

    assert await service.among(given, *segments, sender_id="anna") == [
        "messaging:a",
        "messaging:b",
        "messaging:x",
    ]


async def test_ten_thousand_of_the_longest_ids_can_be_given(service: SegmentServer) -> None:
    given = [f"{number:05}{'x' * 250}" for number in range(10_000)]
    id_ = await service.listing(*given[::2])

    assert await service.among(given, id_) == given[::2]


async def _removed(service: SegmentServer) -> None:
    await service.remove("asked", "bert")


async def _changed(service: SegmentServer) -> None:
    await service.people(["bert"], country="FR")


async def _deactivated(service: SegmentServer) -> None:
    await service.chat.users.deactivate(["bert"], service.clock())


async def _deleted(service: SegmentServer) -> None:
    await service.chat.users.delete(["bert"], service.clock())


async def _filter_changed(service: SegmentServer) -> None:
    await updated(service, ["filter"], id="asked", filter=to_struct({"id": {"$ne": "bert"}}))


@pytest.mark.parametrize(
    ("segment", "leaves"),
    [
        (Segment(), _removed),
        (Segment(filter=to_struct({"country": "USA"})), _changed),
        (Segment(filter=to_struct({"country": "USA"})), _deactivated),
        (Segment(filter=to_struct({"country": "USA"})), _deleted),
        (Segment(filter=to_struct({"country": "USA"})), _filter_changed),
        (Segment(all_users=True), _deactivated),
        (Segment(all_users=True), _deleted),
    ],
    ids=lambda value: (
        value.__name__.strip("_") if callable(value) else value.WhichOneof("definition") or "list"
    ),
)
async def test_who_has_left_is_not_among_them_any_more(
    service: SegmentServer, segment: Segment, leaves: Callable[[SegmentServer], Awaitable[None]]
) -> None:
    await service.people(EVERYONE, country="USA")
    segment.id, segment.type = "asked", USER
    await service.create(segment)
    if segment.WhichOneof("definition") is None:
        await service.add("asked", *EVERYONE)
    assert await service.among(EVERYONE, "asked") == EVERYONE

    await leaves(service)

    assert await service.among(EVERYONE, "asked") == ["anna", "carl", "dora"]
