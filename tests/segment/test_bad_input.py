"""What every call refuses, with its code, its reason and the field."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from herald.chat.v1.sort_pb2 import Sort
from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1.segment_pb2 import Segment, Shard
from herald_rpc.wire.structs import to_struct
from tests.segment.refusals import CODES, refused
from tests.segment.segment_server import CHANNEL, USER, SegmentServer

INVALID, LIMIT, FILTER, SORT = (
    "INVALID_FIELD",
    "LIMIT_EXCEEDED",
    "INVALID_FILTER",
    "INVALID_SORT",
)
TOO_LONG = "x" * 256
LONGER_THAN_A_CID = "x" * 321


def created(**fields: Any) -> pb.CreateSegmentRequest:
    return pb.CreateSegmentRequest(segment=Segment(**{"type": USER, **fields}))


def filtered(filter_: dict[str, Any], type_: Any = USER) -> pb.CreateSegmentRequest:
    return created(type=type_, filter=to_struct(filter_))


def updating(**fields: Any) -> pb.UpdateSegmentRequest:
    return pb.UpdateSegmentRequest(segment=Segment(**{"id": "list", **fields}))


def targets_query(**arguments: Any) -> pb.QueryTargetsRequest:
    return pb.QueryTargetsRequest(**{"segment_id": "list", **arguments})


def counting(*ids: str, sender_id: str = "") -> pb.CountTargetsRequest:
    return pb.CountTargetsRequest(segment_ids=ids, sender_id=sender_id)


def streaming(*ids: str, **arguments: Any) -> pb.StreamTargetsRequest:
    return pb.StreamTargetsRequest(segment_ids=ids or ("list",), **arguments)


def sifting(targets: list[str], *ids: str, sender_id: str = "") -> pb.FilterTargetsRequest:
    return pb.FilterTargetsRequest(
        segment_ids=ids or ("list",), target_ids=targets, sender_id=sender_id
    )


def sorts(*fields: str) -> list[Sort]:
    return [Sort(field=field) for field in fields]


def not_finite() -> Struct:
    struct = Struct()
    struct.fields["age"].number_value = math.inf
    return struct


CASES: dict[str, tuple[str, Any, str, str]] = {
    # CreateSegment
    "create nothing": ("CreateSegment", pb.CreateSegmentRequest(), INVALID, "segment.type"),
    "create no type": ("CreateSegment", created(type=0), INVALID, "segment.type"),
    "create an unknown type": ("CreateSegment", created(type=9), INVALID, "segment.type"),
    "create a long id": ("CreateSegment", created(id=TOO_LONG), LIMIT, "segment.id"),
    "create a NUL in the id": ("CreateSegment", created(id="a\0"), INVALID, "segment.id"),
    "create a long name": ("CreateSegment", created(name="ü" * 129), LIMIT, "segment.name"),
    "create a NUL in the name": ("CreateSegment", created(name="\0"), INVALID, "segment.name"),
    "create a long description": (
        "CreateSegment",
        created(description="x" * 257),
        LIMIT,
        "segment.description",
    ),
    "create false all_users": (
        "CreateSegment",
        created(all_users=False),
        INVALID,
        "segment.all_users",
    ),
    "create false all_sender_channels": (
        "CreateSegment",
        created(type=CHANNEL, all_sender_channels=False),
        INVALID,
        "segment.all_sender_channels",
    ),
    "create all_users of channels": (
        "CreateSegment",
        created(type=CHANNEL, all_users=True),
        INVALID,
        "segment.all_users",
    ),
    "create all_sender_channels of users": (
        "CreateSegment",
        created(all_sender_channels=True),
        INVALID,
        "segment.all_sender_channels",
    ),
    "create an empty filter": ("CreateSegment", filtered({}), FILTER, "filter"),
    "create an unknown operator": (
        "CreateSegment",
        filtered({"$and": [{"country": "USA"}, {"age": {"$near": 3}}]}),
        FILTER,
        "filter.$and[1].age.$near",
    ),
    "create an operand of a wrong type": (
        "CreateSegment",
        filtered({"name": {"$in": ["a", 3]}}),
        FILTER,
        "filter.name.$in[1]",
    ),
    "create a wrong operand for a channel": (
        "CreateSegment",
        filtered({"member_count": "many"}, CHANNEL),
        FILTER,
        "filter.member_count",
    ),
    "create a number of 2^53": (
        "CreateSegment",
        filtered({"age": 2**53}),
        FILTER,
        "filter.age",
    ),
    "create a number that is not finite": (
        "CreateSegment",
        created(filter=not_finite()),
        FILTER,
        "filter.age",
    ),
    "create a NUL in the filter": (
        "CreateSegment",
        filtered({"country": "a\0"}),
        FILTER,
        "filter.country",
    ),
    "create too many clauses": (
        "CreateSegment",
        filtered({"$or": [{"a": 1}] * 251}),
        FILTER,
        "filter.$or[250].a",
    ),
    # GetSegment, DeleteSegment
    "get nothing": ("GetSegment", pb.GetSegmentRequest(), INVALID, "id"),
    "get a long id": ("GetSegment", pb.GetSegmentRequest(id=TOO_LONG), LIMIT, "id"),
    "get a NUL": ("GetSegment", pb.GetSegmentRequest(id="a\0"), INVALID, "id"),
    "delete nothing": ("DeleteSegment", pb.DeleteSegmentRequest(), INVALID, "id"),
    "delete a long id": ("DeleteSegment", pb.DeleteSegmentRequest(id=TOO_LONG), LIMIT, "id"),
    # UpdateSegment
    "update nothing": ("UpdateSegment", updating(id=""), INVALID, "segment.id"),
    "update a long name": ("UpdateSegment", updating(name="x" * 129), LIMIT, "segment.name"),
    "update a long description": (
        "UpdateSegment",
        updating(description="x" * 257),
        LIMIT,
        "segment.description",
    ),
    "update an unknown type": ("UpdateSegment", updating(type=9), INVALID, "segment.type"),
    "update false all_users": (
        "UpdateSegment",
        updating(all_users=False),
        INVALID,
        "segment.all_users",
    ),
    "update an empty filter": (
        "UpdateSegment",
        updating(id="filter", filter=to_struct({})),
        FILTER,
        "filter",
    ),
    "update a wrong filter": (
        "UpdateSegment",
        updating(id="filter", filter=to_struct({"name": 3})),
        FILTER,
        "filter.name",
    ),
    # QuerySegments
    "query an unknown field": (
        "QuerySegments",
        pb.QuerySegmentsRequest(filter=to_struct({"description": "x"})),
        FILTER,
        "filter.description",
    ),
    "query a wrong operand": (
        "QuerySegments",
        pb.QuerySegmentsRequest(filter=to_struct({"size": {"$gt": "3"}})),
        FILTER,
        "filter.size.$gt",
    ),
    "query an unknown sort": (
        "QuerySegments",
        pb.QuerySegmentsRequest(sort=sorts("name", "description")),
        SORT,
        "sort[1].field",
    ),
    "query the same sort twice": (
        "QuerySegments",
        pb.QuerySegmentsRequest(sort=sorts("name", "name")),
        SORT,
        "sort[1].field",
    ),
    "query an unknown direction": (
        "QuerySegments",
        pb.QuerySegmentsRequest(sort=[*sorts("id"), Sort(field="name", direction=9)]),  # type: ignore[arg-type]
        SORT,
        "sort[1].direction",
    ),
    "query six sorts": (
        "QuerySegments",
        pb.QuerySegmentsRequest(sort=sorts("id", "name", "type", "size", "all_users", "x")),
        SORT,
        "sort",
    ),
    "query a negative page": (
        "QuerySegments",
        pb.QuerySegmentsRequest(page_size=-1),
        INVALID,
        "page_size",
    ),
    "query a damaged token": (
        "QuerySegments",
        pb.QuerySegmentsRequest(page_token="damaged"),  # noqa: S106 - no password
        "INVALID_PAGE_TOKEN",
        "page_token",
    ),
    # AddTargets, RemoveTargets
    "add to nothing": ("AddTargets", pb.AddTargetsRequest(target_ids=["a"]), INVALID, "segment_id"),
    "add nothing": ("AddTargets", pb.AddTargetsRequest(segment_id="list"), INVALID, "target_ids"),
    "add an empty id": (
        "AddTargets",
        pb.AddTargetsRequest(segment_id="list", target_ids=["a", ""]),
        INVALID,
        "target_ids[1]",
    ),
    "add a long id": (
        "AddTargets",
        pb.AddTargetsRequest(segment_id="list", target_ids=["a", LONGER_THAN_A_CID]),
        LIMIT,
        "target_ids[1]",
    ),
    "add a NUL": (
        "AddTargets",
        pb.AddTargetsRequest(segment_id="list", target_ids=["a\0"]),
        INVALID,
        "target_ids[0]",
    ),
    "remove from nothing": (
        "RemoveTargets",
        pb.RemoveTargetsRequest(target_ids=["a"]),
        INVALID,
        "segment_id",
    ),
    "remove nothing": (
        "RemoveTargets",
        pb.RemoveTargetsRequest(segment_id="list"),
        INVALID,
        "target_ids",
    ),
    # TargetExists, ExplainTarget
    "exists in nothing": (
        "TargetExists",
        pb.TargetExistsRequest(target_id="a"),
        INVALID,
        "segment_id",
    ),
    "exists nobody": (
        "TargetExists",
        pb.TargetExistsRequest(segment_id="list"),
        INVALID,
        "target_id",
    ),
    "exists a long sender": (
        "TargetExists",
        pb.TargetExistsRequest(segment_id="list", target_id="a", sender_id=TOO_LONG),
        LIMIT,
        "sender_id",
    ),
    "explain nobody": (
        "ExplainTarget",
        pb.ExplainTargetRequest(segment_id="list"),
        INVALID,
        "target_id",
    ),
    "explain a NUL": (
        "ExplainTarget",
        pb.ExplainTargetRequest(segment_id="list", target_id="\0"),
        INVALID,
        "target_id",
    ),
    # QueryTargets
    "targets of nothing": ("QueryTargets", targets_query(segment_id=""), INVALID, "segment_id"),
    "targets by another field": (
        "QueryTargets",
        targets_query(filter=to_struct({"created_at": "2026-01-01T00:00:00Z"})),
        FILTER,
        "filter.created_at",
    ),
    "targets by another type": (
        "QueryTargets",
        targets_query(filter=to_struct({"target_id": {"$in": [1]}})),
        FILTER,
        "filter.target_id.$in[0]",
    ),
    "targets in another order": (
        "QueryTargets",
        targets_query(sort=sorts("created_at")),
        SORT,
        "sort[0].field",
    ),
    "targets in the same order twice": (
        "QueryTargets",
        targets_query(sort=sorts("target_id", "target_id")),
        SORT,
        "sort[1].field",
    ),
    "targets of a negative page": (
        "QueryTargets",
        targets_query(page_size=-1),
        INVALID,
        "page_size",
    ),
    "targets of a damaged token": (
        "QueryTargets",
        targets_query(page_token="damaged"),  # noqa: S106 - no password
        "INVALID_PAGE_TOKEN",
        "page_token",
    ),
    **{
        f"targets by {operator}": (
            "QueryTargets",
            targets_query(filter=to_struct({"$or": [{"target_id": {operator: operand}}]})),
            FILTER,
            f"filter.$or[0].target_id.{operator}",
        )
        for operator, operand in {
            "$ne": "a",
            "$nin": ["a"],
            "$exists": True,
            "$contains": "a",
            "$autocomplete": "a",
            "$q": "a",
        }.items()
    },
    # CountTargets
    "count nothing": ("CountTargets", counting(), INVALID, "segment_ids"),
    "count an empty id": ("CountTargets", counting("list", ""), INVALID, "segment_ids[1]"),
    "count 26 segments": ("CountTargets", counting(*["list"] * 26), LIMIT, "segment_ids"),
    "count for a NUL": ("CountTargets", counting("list", sender_id="\0"), INVALID, "sender_id"),
    # FilterTargets
    "sift nothing": ("FilterTargets", sifting([]), INVALID, "target_ids"),
    "sift an empty id": ("FilterTargets", sifting(["a", ""]), INVALID, "target_ids[1]"),
    "sift a NUL": ("FilterTargets", sifting(["\0"]), INVALID, "target_ids[0]"),
    "sift a long id": ("FilterTargets", sifting([LONGER_THAN_A_CID]), LIMIT, "target_ids[0]"),
    "sift 10,001 targets": ("FilterTargets", sifting(["a"] * 10_001), LIMIT, "target_ids"),
    "sift in no segment": (
        "FilterTargets",
        pb.FilterTargetsRequest(target_ids=["a"]),
        INVALID,
        "segment_ids",
    ),
    "sift in an empty id": ("FilterTargets", sifting(["a"], "list", ""), INVALID, "segment_ids[1]"),
    "sift in 26 segments": ("FilterTargets", sifting(["a"], *["list"] * 26), LIMIT, "segment_ids"),
    "sift for a NUL": ("FilterTargets", sifting(["a"], sender_id="\0"), INVALID, "sender_id"),
    # StreamTargets
    "stream nothing": ("StreamTargets", pb.StreamTargetsRequest(), INVALID, "segment_ids"),
    "stream 26 segments": ("StreamTargets", streaming(*["list"] * 26), LIMIT, "segment_ids"),
    "stream a negative page": ("StreamTargets", streaming(page_size=-1), INVALID, "page_size"),
    "stream a negative limit": ("StreamTargets", streaming(page_limit=-1), INVALID, "page_limit"),
    "stream a damaged token": (
        "StreamTargets",
        streaming(resume_token="damaged"),  # noqa: S106 - no password
        "INVALID_RESUME_TOKEN",
        "resume_token",
    ),
    "stream a shard beyond the last": (
        "StreamTargets",
        streaming(shard=Shard(index=2, count=2)),
        INVALID,
        "shard.index",
    ),
    "stream a second shard of one": (
        "StreamTargets",
        streaming(shard=Shard(index=1)),
        INVALID,
        "shard.index",
    ),
    "stream a negative shard": (
        "StreamTargets",
        streaming(shard=Shard(index=-1, count=2)),
        INVALID,
        "shard.index",
    ),
    "stream a negative number of shards": (
        "StreamTargets",
        streaming(shard=Shard(count=-2)),
        INVALID,
        "shard.count",
    ),
    "stream too many shards": (
        "StreamTargets",
        streaming(shard=Shard(count=1_025)),
        LIMIT,
        "shard.count",
    ),
}

LIMITS = {
    "create a long id": ("255", "256"),
    "create a long name": ("128", "129"),
    "create a long description": ("256", "257"),
    "count 26 segments": ("25", "26"),
    "stream 26 segments": ("25", "26"),
    "stream too many shards": ("1024", "1025"),
}


async def call(service: SegmentServer, method: str, request: Any) -> Any:
    answer = getattr(service.stub, method)(request)
    if method == "StreamTargets":
        return [page async for page in answer]
    return await answer


@pytest.fixture
async def known(sqlite_service: SegmentServer) -> SegmentServer:
    """A service that knows a segment of each kind, called after it."""
    await sqlite_service.listing("anna", id_="list")
    await sqlite_service.matching({"country": "USA"}, id_="filter")
    return sqlite_service


@pytest.mark.parametrize(("method", "request_", "reason", "field"), CASES.values(), ids=CASES)
async def test_bad_input_is_refused_at_its_field(
    known: SegmentServer, method: str, request_: Any, reason: str, field: str
) -> None:
    refusal = await refused(call(known, method, request_))

    assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, reason)
    assert refusal.fields == (field,)
    assert refusal.metadata["field"] == field


@pytest.mark.parametrize(("case", "limit"), LIMITS.items(), ids=LIMITS)
async def test_a_limit_is_told_with_what_was_given(
    known: SegmentServer, case: str, limit: tuple[str, str]
) -> None:
    method, request, _, _ = CASES[case]

    refusal = await refused(call(known, method, request))

    assert (refusal.metadata["limit"], refusal.metadata["given"]) == limit


# How each call asks about one segment, for the refusals that all of them share.
ASKING: dict[str, Callable[[str], Any]] = {
    "TargetExists": lambda id_: pb.TargetExistsRequest(segment_id=id_, target_id="a:b"),
    "QueryTargets": lambda id_: pb.QueryTargetsRequest(segment_id=id_),
    "CountTargets": lambda id_: pb.CountTargetsRequest(segment_ids=["senders", id_]),
    "StreamTargets": lambda id_: pb.StreamTargetsRequest(segment_ids=["senders", id_]),
    "FilterTargets": lambda id_: pb.FilterTargetsRequest(
        segment_ids=["senders", id_], target_ids=["a:b"]
    ),
    "ExplainTarget": lambda id_: pb.ExplainTargetRequest(segment_id=id_, target_id="a:b"),
}
NAMING: dict[str, Callable[[str], Any]] = {
    **ASKING,
    "GetSegment": lambda id_: pb.GetSegmentRequest(id=id_),
    "DeleteSegment": lambda id_: pb.DeleteSegmentRequest(id=id_),
    "UpdateSegment": lambda id_: pb.UpdateSegmentRequest(segment=Segment(id=id_, name="n")),
    "AddTargets": lambda id_: pb.AddTargetsRequest(segment_id=id_, target_ids=["a:b"]),
    "RemoveTargets": lambda id_: pb.RemoveTargetsRequest(segment_id=id_, target_ids=["a:b"]),
}


@pytest.fixture
async def of_channels(sqlite_service: SegmentServer) -> SegmentServer:
    await sqlite_service.create(Segment(id="senders", type=CHANNEL, all_sender_channels=True))
    return sqlite_service


@pytest.mark.parametrize("method", NAMING)
async def test_an_unknown_segment_is_not_found(of_channels: SegmentServer, method: str) -> None:
    refusal = await refused(call(of_channels, method, NAMING[method]("x")))

    assert (refusal.code, refusal.reason) == (CODES.NOT_FOUND, "SEGMENT_NOT_FOUND")
    assert refusal.metadata == {"segment_id": "x"}
    assert refusal.resource == ("herald.Segment", "x")


@pytest.mark.parametrize("method", ASKING)
async def test_the_targets_of_a_deleted_segment_can_not_be_asked_for(
    of_channels: SegmentServer, method: str
) -> None:
    id_ = await of_channels.listing("a:b", type_=CHANNEL)
    await of_channels.delete(id_)

    refusal = await refused(call(of_channels, method, ASKING[method](id_)))

    assert (refusal.code, refusal.reason) == (CODES.FAILED_PRECONDITION, "SEGMENT_DELETED")
    assert refusal.metadata == {"segment_id": id_}
    assert refusal.preconditions == (("SEGMENT_DELETED", id_),)


@pytest.mark.parametrize("method", ASKING)
async def test_a_senders_channels_can_not_be_asked_for_without_the_sender(
    of_channels: SegmentServer, method: str
) -> None:
    refusal = await refused(call(of_channels, method, ASKING[method]("senders")))

    assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "SENDER_REQUIRED")
    assert refusal.metadata == {"field": "sender_id", "segment_id": "senders"}
    assert refusal.fields == ("sender_id",)


async def test_of_several_segments_the_first_that_is_not_there_is_named(
    sqlite_service: SegmentServer,
) -> None:
    await sqlite_service.listing(id_="there")
    await sqlite_service.listing(id_="gone")
    await sqlite_service.delete("gone")

    unknown = await refused(sqlite_service.count("there", "gone", "y", "x"))
    deleted = await refused(sqlite_service.count("there", "gone"))

    assert unknown.metadata == {"segment_id": "y"}
    assert deleted.metadata == {"segment_id": "gone"}


def test_every_call_is_in_the_tables() -> None:
    methods = set(pb.DESCRIPTOR.services_by_name["SegmentService"].methods_by_name)

    assert {method for method, *_ in CASES.values()} == methods
    assert set(NAMING) == methods - {"CreateSegment", "QuerySegments"}
