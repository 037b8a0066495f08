"""What can be no target is refused where it is added, in place of a SKIPPED one at the end."""

import pytest

from chat_store.ids import MAX_CHANNEL_TYPE, MAX_ID
from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as pb
from tests.segment.refusals import CODES, refused
from tests.segment.segment_server import CHANNEL, USER, SegmentServer

pytestmark = pytest.mark.nightly_on("postgres")

NO_CIDS = [
    "general",
    ":general",
    "messaging:",
    "messaging:a b",
    "a:b:c",
    "messaging:a\r",
    "messaging:a,",
    '"messaging:a"',
    "mess aging:a",
    "messaging :a",
    "messaging:é",
    "messaging:!a",
    "team:!members-x:y",
    "messaging:!members-",
    f"{'t' * (MAX_CHANNEL_TYPE + 1)}:a",
    f"messaging:{'x' * (MAX_ID + 1)}",
]
NO_USER_IDS = ["ann\r", "ann\n", "ann,", ",", "ann\t", "ann\x1f", "x" * (MAX_ID + 1)]
CIDS = ["messaging:general", "m:ann.lee+news@example.com-8c", "m-1:!members-aB_-", "t" * 64 + ":x"]
USER_IDS = ["ann", "ann.lee@example.com", "a b", "a'b", "a:b", "ü🦉", "x" * MAX_ID]


@pytest.mark.parametrize(
    ("type_", "target_id"),
    [*((CHANNEL, cid) for cid in NO_CIDS), *((USER, id_) for id_ in NO_USER_IDS)],
)
async def test_a_target_that_can_be_none_is_refused_at_its_place(
    service: SegmentServer, type_: segment_pb2.SegmentType.ValueType, target_id: str
) -> None:
    good = CIDS[0] if type_ == CHANNEL else USER_IDS[0]
    id_ = await service.listing(type_=type_)

    for place, target_ids in enumerate([[target_id, good], [good, target_id]]):
        refusal = await refused(service.add(id_, *target_ids))
        assert refusal.code is CODES.INVALID_ARGUMENT
        assert refusal.fields == (f"target_ids[{place}]",)
    assert await service.targets(id_) == []


@pytest.mark.parametrize(("type_", "target_ids"), [(CHANNEL, CIDS), (USER, USER_IDS)])
async def test_a_target_that_can_be_one_is_taken_though_nobody_has_the_id(
    service: SegmentServer, type_: segment_pb2.SegmentType.ValueType, target_ids: list[str]
) -> None:
    id_ = await service.listing(*target_ids, type_=type_)

    assert await service.targets(id_) == sorted(target_ids, key=str.encode)


async def test_what_can_be_no_target_is_removed_and_looked_up_without_an_error(
    service: SegmentServer,
) -> None:
    """A list of an older version may have some."""
    id_ = await service.listing(type_=CHANNEL)

    assert (await service.remove(id_, "a:b:c", "general")).removed == 0
    request = pb.TargetExistsRequest(segment_id=id_, target_id="a:b:c")
    assert not (await service.stub.TargetExists(request)).exists
