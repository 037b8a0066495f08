"""Targets are listed and unlisted, counted exactly, and every change of a list shows."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from herald.segment.v1.segment_pb2 import Segment
from herald.segment.v1.segment_service_pb2 import AddTargetsRequest, RemoveTargetsRequest
from herald_rpc.wire.fields import timestamp
from herald_rpc.wire.structs import to_struct
from tests.segment.refusals import CODES, refused
from tests.segment.segment_server import CHANNEL, NOON, USER, SegmentServer

pytestmark = pytest.mark.nightly_on("postgres")


def change(service: SegmentServer, kind: str, id_: str, *target_ids: str) -> Awaitable[Any]:
    return {"add": service.add, "remove": service.remove}[kind](id_, *target_ids)


async def test_listed_targets_are_in_and_counted(service: SegmentServer) -> None:
    id_ = await service.listing()
    service.clock.move(60)

    response = await service.add(id_, "bert", "anna")

    assert response.added == 2
    assert response.segment == Segment(
        id=id_,
        type=USER,
        size=2,
        size_updated_at=timestamp(service.clock()),
        created_at=timestamp(NOON),
        created_by="local",
        updated_at=timestamp(NOON),
        updated_by="local",
    )
    assert await service.get(id_) == response.segment
    assert await service.targets(id_) == ["anna", "bert"]


async def test_adding_twice_is_once_and_tells_how_many_were_new(service: SegmentServer) -> None:
    id_ = await service.listing("anna", "bert")

    response = await service.add(id_, "carl", "bert", "carl")

    assert (response.added, response.segment.size) == (1, 3)


async def test_what_is_listed_again_keeps_the_time_it_was_added(service: SegmentServer) -> None:
    id_ = await service.listing("anna")
    service.clock.move(60)
    await service.add(id_, "anna", "bert")

    targets = (await service.query_targets(id_)).targets

    assert [(target.target_id, target.created_at) for target in targets] == [
        ("anna", timestamp(NOON)),
        ("bert", timestamp(service.clock())),
    ]


async def test_removing_tells_how_many_were_in_and_passes_over_the_others(
    service: SegmentServer,
) -> None:
    id_ = await service.listing("anna", "bert", "carl")

    response = await service.remove(id_, "carl", "nobody", "anna", "anna")

    assert (response.removed, response.segment.size) == (2, 1)
    assert await service.targets(id_) == ["bert"]


async def test_a_list_is_no_other_list(service: SegmentServer) -> None:
    one, other = await service.listing("anna"), await service.listing("anna", "bert")

    await service.remove(other, "anna")

    assert await service.targets(one) == ["anna"]
    assert (await service.get(one)).size == 1


async def test_size_updated_at_grows_with_every_change_also_when_the_clock_does_not(
    service: SegmentServer,
) -> None:
    id_ = await service.listing()
    changes: list[Any] = [await service.add(id_, name) for name in ("anna", "bert")]
    service.clock.move(-3600)
    changes += [await service.add(id_, name) for name in ("carl", "dora")]
    changes += [await service.remove(id_, name) for name in ("anna", "bert")]

    times = [answer.segment.size_updated_at.ToNanoseconds() for answer in changes]
    assert times == sorted(set(times))


@pytest.mark.parametrize("kind", ["add", "remove"])
async def test_a_change_that_changes_nothing_leaves_size_updated_at(
    service: SegmentServer, kind: str
) -> None:
    id_ = await service.listing("anna")
    before = await service.get(id_)
    service.clock.move(60)

    answer = await change(service, kind, id_, "anna" if kind == "add" else "nobody")

    assert answer.segment == before


async def test_changes_at_the_same_time_lose_none(service: SegmentServer) -> None:
    id_ = await service.listing(*(f"old-{number}" for number in range(11)))
    adding = (service.add(id_, f"new-{number}", "shared") for number in range(10))
    removing = (service.remove(id_, f"old-{number}", "old-10") for number in range(10))

    answers: list[Any] = await asyncio.gather(*adding, *removing)

    assert (await service.get(id_)).size == len(await service.targets(id_)) == 11
    assert len({answer.segment.size_updated_at.ToNanoseconds() for answer in answers}) == 20


async def test_ten_thousand_targets_are_added_and_removed_in_one_call(
    service: SegmentServer,
) -> None:
    ids = [f"user-{number}" for number in range(10_000)]
    id_ = await service.listing()

    assert (await service.add(id_, *ids)).added == 10_000
    assert (await service.remove(id_, *ids)).segment.size == 0


async def test_any_text_can_be_a_user_id(service: SegmentServer) -> None:
    odd = ["a'b", 'a"b', "ü", "🦉", "a b", "\\", "%", "x" * 255, "\ufeff", "e\u0301", "é"]
    id_ = await service.listing(*odd)

    assert await service.targets(id_) == sorted(odd, key=str.encode)


async def test_a_channel_list_takes_cids(service: SegmentServer) -> None:
    id_ = await service.listing("messaging:general", "team:!members-x_y", type_=CHANNEL)

    assert await service.targets(id_) == ["messaging:general", "team:!members-x_y"]


@pytest.mark.parametrize("bad", ["general", "messaging:", ":general", ":"])
async def test_what_is_no_cid_is_refused_and_nothing_of_the_call_is_added(
    service: SegmentServer, bad: str
) -> None:
    id_ = await service.listing(type_=CHANNEL)

    refusal = await refused(service.add(id_, "messaging:general", bad))

    assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == ("target_ids[1]",)
    assert await service.targets(id_) == []


@pytest.mark.parametrize("kind", ["add", "remove"])
@pytest.mark.parametrize(
    ("segment", "definition"),
    [
        (Segment(id="s", type=USER, filter=to_struct({"country": "DE"})), "filter"),
        (Segment(id="s", type=USER, all_users=True), "all_users"),
        (Segment(id="s", type=CHANNEL, all_sender_channels=True), "all_sender_channels"),
    ],
    ids=["filter", "all users", "all sender channels"],
)
async def test_a_segment_with_a_definition_has_no_list(
    service: SegmentServer, kind: str, segment: Segment, definition: str
) -> None:
    await service.create(segment)

    refusal = await refused(change(service, kind, "s", "messaging:general"))

    assert (refusal.code, refusal.reason) == (CODES.FAILED_PRECONDITION, "SEGMENT_HAS_DEFINITION")
    assert refusal.metadata == {"segment_id": "s", "definition": definition}
    assert refusal.preconditions == (("SEGMENT_HAS_DEFINITION", "s"),)


@pytest.mark.parametrize("kind", ["add", "remove"])
async def test_the_list_of_a_deleted_segment_stays_as_it_is(
    service: SegmentServer, kind: str
) -> None:
    id_ = await service.listing("anna")
    await service.delete(id_)

    refusal = await refused(change(service, kind, id_, "anna", "bert"))

    assert (refusal.code, refusal.reason) == (CODES.FAILED_PRECONDITION, "SEGMENT_DELETED")
    assert refusal.metadata == {"segment_id": id_}
    assert (await service.get(id_)).size == 1


@pytest.mark.parametrize("kind", ["add", "remove"])
async def test_an_unknown_segment_has_no_list(service: SegmentServer, kind: str) -> None:
    refusal = await refused(change(service, kind, "x", "anna"))

    assert (refusal.code, refusal.reason) == (CODES.NOT_FOUND, "SEGMENT_NOT_FOUND")
    assert refusal.metadata == {"segment_id": "x"}
    assert refusal.resource == ("herald.Segment", "x")


@pytest.mark.parametrize("kind", ["add", "remove"])
async def test_more_than_ten_thousand_targets_are_refused_even_if_they_are_few(
    sqlite_service: SegmentServer, kind: str
) -> None:
    id_ = await sqlite_service.listing()
    target_ids = ["anna"] * 10_001
    stub = sqlite_service.stub
    call: Awaitable[Any] = (
        stub.AddTargets(AddTargetsRequest(segment_id=id_, target_ids=target_ids))
        if kind == "add"
        else stub.RemoveTargets(RemoveTargetsRequest(segment_id=id_, target_ids=target_ids))
    )

    refusal = await refused(call)

    assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
    assert refusal.metadata == {"field": "target_ids", "limit": "10000", "given": "10001"}
    assert refusal.fields == ("target_ids",)
