"""The largest filters answer on every database, and one step more is refused."""

import asyncio
from typing import Any

import pytest

from herald.chat.v1 import chat_service_pb2 as chat_pb
from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1.segment_pb2 import Segment
from herald_rpc.wire.structs import to_struct
from tests.queries.query_clients import QueryClients, person
from tests.segment.refusals import CODES, refused
from tests.segment.segment_server import USER


def largest(clauses: int = 250) -> dict[str, Any]:
    """At depth 20: the document, and 19 lists within each other with all clauses in the last."""
    found: dict[str, Any] = {"$or": [{f"key-{n}": n} for n in range(clauses)]}
    for _ in range(9):
        found = {"$and": [{"$or": [found]}]}
    return found


@pytest.mark.nightly
async def test_a_filter_of_250_clauses_at_depth_20_answers_and_comes_back(
    clients: QueryClients,
) -> None:
    await clients.given(person("anna", custom={"key-249": 249}), person("bert"))
    id_ = await clients.segments.matching(largest())

    targets = await clients.segments.query_targets(id_)

    assert [target.target_id for target in targets.targets] == ["anna"]
    assert await clients.segments.targets(id_) == ["anna"]
    assert await clients.users(largest()) == ["anna"]
    assert (await clients.segments.get(id_)).filter == to_struct(largest())
    listed = await clients.segments.stub.QuerySegments(pb.QuerySegmentsRequest())
    assert listed.segments[0].filter == to_struct(largest())


async def test_one_clause_more_is_refused_at_its_path(clients: QueryClients) -> None:
    path = "filter" + ".$and[0].$or[0]" * 9 + ".$or[250].key-250"
    for call in (clients.users(largest(251)), clients.segments.matching(largest(251))):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "INVALID_FILTER")
        assert refusal.fields == (path,)


def field(number: int, content: bytes) -> bytes:
    """A message's field in bytes: the library builds none deeper than it reads."""
    length, size = b"", len(content)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


@pytest.mark.nightly_on("postgresql")
async def test_a_filter_deeper_than_a_message_can_hold_is_a_malformed_request(
    clients: QueryClients,
) -> None:
    """Protobuf reads 100 messages within each other, so a 21st level has no path to be told at."""
    deeper = to_struct({"age": 1}).SerializeToString()
    for _ in range(20):
        value = field(2, field(6, field(1, field(5, deeper))))
        deeper = field(1, field(1, b"$and") + value)
    query = field(chat_pb.QueryUsersRequest.FILTER_FIELD_NUMBER, deeper)
    call: Any = clients.channel.unary_unary("/herald.chat.v1.ChatService/QueryUsers", None, None)

    refusal = await refused(call(query))

    assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "MALFORMED_REQUEST")


def mixed(segment: int) -> dict[str, Any]:
    """20 clauses that nobody meets but whoever has `last` as the segment's number."""
    kinds: list[dict[str, Any]] = [
        {"$q": "needle"},
        {"$in": ["a", 1, True]},
        {"$contains": {"a": [1]}},
        {"$gt": 1},
        {"$autocomplete": "needle"},
    ]
    clauses = [{f"key-{segment}-{n}": kinds[n % len(kinds)]} for n in range(18)]
    nobody = {"$nor": [{"id": {"$exists": True}}]}
    return {"$or": [*clauses, nobody, {"last": segment}]}


@pytest.mark.nightly
async def test_25_segments_of_500_clauses_together_are_one_audience(clients: QueryClients) -> None:
    await clients.given(*(person(f"user-{n:02}", custom={"last": n}) for n in range(30)))
    segments = [Segment(id=f"s-{n}", type=USER, filter=to_struct(mixed(n))) for n in range(25)]
    await asyncio.gather(*map(clients.segments.create, segments))
    ids = [segment.id for segment in segments]

    assert await clients.segments.targets(*ids) == [f"user-{n:02}" for n in range(25)]
