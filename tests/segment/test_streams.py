"""StreamTargets: the union of its segments, each target once, in order, from any cursor on."""

import asyncio
from contextlib import AsyncExitStack, aclosing

import grpc
import pytest

from herald.segment.v1.segment_pb2 import Shard
from herald.segment.v1.segment_service_pb2 import StreamTargetsRequest, StreamTargetsResponse
from herald_rpc.wire.structs import to_struct
from segment_service import segments
from segment_service.sql.targets import SqlTargetStore
from segment_service.streams import TargetCursor, TargetStreams
from tests.segment.refusals import CODES, Refusal, refusal_in, refused
from tests.segment.segment_server import CHANNEL, USER, SegmentServer, start_segment_server
from tests.segment.test_segments import updated

MIB = 2**20


async def read_until_refused(
    call: "grpc.aio.UnaryStreamCall[StreamTargetsRequest, StreamTargetsResponse]",
) -> Refusal:
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return refusal_in(error)
    raise AssertionError("not refused")


def more_than_is_sent_ahead() -> list[str]:
    """Two megabytes of ids: a server is far from their end while its caller reads the first."""
    return [f"user-{number:05}-{'🦉' * 240}" for number in range(2_000)]


async def test_a_stream_gives_every_target_of_several_segments_once_in_bytewise_order(
    service: SegmentServer,
) -> None:
    await service.people(["bert", "Zoe", "émile"], country="USA")
    segments = [
        await service.listing("anna", "bert", "nobody"),
        await service.listing("nobody", "Zoe"),
        await service.matching({"country": "USA"}),
        await service.matching({"id": {"$gt": "a"}}),
    ]

    assert await service.targets(*segments) == ["Zoe", "anna", "bert", "nobody", "émile"]


async def test_channels_of_lists_filters_and_the_sender_are_one_stream(
    service: SegmentServer,
) -> None:
    await service.channel("messaging:a", ["anna"])
    await service.channel("messaging:b", ["anna", "bert"], team="red")
    await service.channel("messaging:c", ["bert"], team="red")
    segments = [
        await service.listing("messaging:c", "messaging:x", type_=CHANNEL),
        await service.matching({"team": "red"}, CHANNEL),
        await service.senders_channels(),
    ]

    assert await service.targets(*segments, sender_id="anna") == [
        "messaging:a",
        "messaging:b",
        "messaging:c",
        "messaging:x",
    ]


async def test_a_stream_of_nobody_ends_well_and_empty(service: SegmentServer) -> None:
    assert await service.targets(await service.listing(), await service.all_users()) == []


async def test_a_page_has_at_most_as_many_targets_as_asked_for(service: SegmentServer) -> None:
    id_ = await service.listing(*"abcde")

    pages = await service.pages(id_, page_size=2)

    assert [list(page.target_ids) for page in pages] == [["a", "b"], ["c", "d"], ["e"]]


@pytest.mark.parametrize(
    ("page_limit", "pages"),
    [
        (0, ["ab", "cd", "e"]),
        (1, ["ab"]),
        (2, ["ab", "cd"]),
        (3, ["ab", "cd", "e"]),
        (9, ["ab", "cd", "e"]),
    ],
)
async def test_a_stream_with_a_limit_ends_after_so_many_pages(
    service: SegmentServer, page_limit: int, pages: list[str]
) -> None:
    id_ = await service.listing(*"abcde")

    found = await service.pages(id_, page_size=2, page_limit=page_limit)

    assert ["".join(page.target_ids) for page in found] == pages
    rest = await service.targets(id_, resume_token=found[-1].resume_token)
    assert "".join(rest) == "abcde".removeprefix("".join(pages))


async def test_a_page_has_1000_targets_unless_told_otherwise_and_10000_at_most(
    sqlite_service: SegmentServer,
) -> None:
    everyone = [f"user-{number:05}" for number in range(10_001)]
    id_ = await sqlite_service.listing(*everyone[1:])
    await sqlite_service.add(id_, everyone[0])

    default = await sqlite_service.pages(id_)
    largest = await sqlite_service.pages(id_, page_size=2**31 - 1)

    assert [len(page.target_ids) for page in default] == [1_000] * 10 + [1]
    assert [len(page.target_ids) for page in largest] == [10_000, 1]


@pytest.mark.nightly
async def test_a_message_of_very_long_ids_is_shorter_and_the_stream_goes_on(
    sqlite_service: SegmentServer,
) -> None:
    everyone = sorted("🦉" * 250 + f"{number:05}" for number in range(4_500))
    id_ = await sqlite_service.listing(*everyone[:3_000])
    await sqlite_service.add(id_, *everyone[3_000:])

    pages = await sqlite_service.pages(id_, page_size=10_000)

    assert [target for page in pages for target in page.target_ids] == everyone
    assert len(pages) == 2


@pytest.mark.nightly
async def test_pages_that_wait_for_slow_readers_are_bounded_in_all(
    sqlite_service: SegmentServer,
) -> None:
    everyone = [f"user-{number:05}-{'x' * 240}" for number in range(10_000)]
    id_ = await sqlite_service.listing(*everyone)
    streams = TargetStreams(SqlTargetStore(sqlite_service.database), asyncio.Event())
    cursor = TargetCursor((id_,), "", segments.Shard(), "")

    async with AsyncExitStack() as stack:
        unread = [
            await stack.enter_async_context(aclosing(streams.pages(cursor, 10_000)))
            for _ in range(100)
        ]
        waiting = [(await anext(pages))[0] for pages in unread]
    at_last = [target async for page, _ in streams.pages(cursor, 10_000) for target in page]

    sizes = [sum(map(len, page)) for page in waiting]
    assert sum(sizes) <= 32 * MIB + len(sizes) * 64 * 1024
    assert sizes[0] > 16 * sizes[-1] > 0
    assert at_last == everyone


async def test_resuming_with_any_page_s_token_gives_exactly_the_rest(
    service: SegmentServer,
) -> None:
    id_ = await service.listing(*"abcde")
    pages = await service.pages(id_, page_size=2)

    rests = [await service.targets(id_, resume_token=page.resume_token) for page in pages]

    assert rests == [["c", "d", "e"], ["e"], []]


async def test_what_is_added_ahead_of_the_token_is_seen_and_behind_it_is_not(
    service: SegmentServer,
) -> None:
    id_ = await service.listing(*"bdf")
    first = (await service.pages(id_, page_size=1))[0]

    await service.add(id_, "a", "c", "g")
    await service.remove(id_, "d")

    assert await service.targets(id_, resume_token=first.resume_token) == ["c", "f", "g"]


async def test_a_stream_under_way_sees_what_is_added_far_ahead(service: SegmentServer) -> None:
    id_ = await service.listing(*more_than_is_sent_ahead())
    call = service.stub.StreamTargets(StreamTargetsRequest(segment_ids=[id_], page_size=20))
    pages = aiter(call)
    seen = list((await anext(pages)).target_ids)

    await service.add(id_, "a-behind", "zoe")
    async for page in pages:
        seen += page.target_ids

    assert seen == [*more_than_is_sent_ahead(), "zoe"]


async def test_a_new_filter_is_used_from_the_token_on(service: SegmentServer) -> None:
    await service.people("abcd", country="USA")
    await service.people("ef", country="DE")
    id_ = await service.matching({"country": "USA"})
    first = (await service.pages(id_, page_size=2))[0]

    await updated(service, id=id_, filter=to_struct({"country": "DE"}))

    assert await service.targets(id_, page_size=2, resume_token=first.resume_token) == ["e", "f"]


async def test_who_left_ahead_of_the_token_is_not_in_the_rest(service: SegmentServer) -> None:
    await service.people("abcd")
    id_ = await service.all_users()
    first = (await service.pages(id_, page_size=1))[0]

    await service.chat.users.deactivate(["c"], service.clock())

    assert await service.targets(id_, resume_token=first.resume_token) == ["b", "d"]


async def test_deleting_one_of_its_segments_ends_a_stream_under_way(service: SegmentServer) -> None:
    one = await service.listing(*more_than_is_sent_ahead())
    other = await service.listing("anna")
    call = service.stub.StreamTargets(StreamTargetsRequest(segment_ids=[one, other], page_size=20))
    await call.read()

    await service.delete(other)
    refusal = await read_until_refused(call)

    assert (refusal.code, refusal.reason) == (CODES.FAILED_PRECONDITION, "SEGMENT_DELETED")
    assert refusal.metadata == {"segment_id": other}


async def test_a_shutdown_ends_a_stream_under_way_with_unavailable(database_url: str) -> None:
    async with start_segment_server(database_url) as service:
        id_ = await service.listing(*more_than_is_sent_ahead())
        call = service.stub.StreamTargets(StreamTargetsRequest(segment_ids=[id_], page_size=20))
        await call.read()

        service.stopping.set()
        refusal = await read_until_refused(call)

    assert (refusal.code, refusal.reason) == (CODES.UNAVAILABLE, "UNAVAILABLE")


async def test_a_caller_that_hangs_up_leaves_no_connection_behind(service: SegmentServer) -> None:
    id_ = await service.listing(*more_than_is_sent_ahead())
    for _ in range(40):
        call = service.stub.StreamTargets(StreamTargetsRequest(segment_ids=[id_], page_size=20))
        await call.read()
        call.cancel()

    assert await service.exists(id_, "anna") is False


async def test_readers_that_do_not_read_hold_no_connections(service: SegmentServer) -> None:
    """More streams than the pool has connections, none of them read beyond the first page."""
    id_ = await service.listing(*more_than_is_sent_ahead())
    request = StreamTargetsRequest(segment_ids=[id_], page_size=20)
    calls = [service.stub.StreamTargets(request) for _ in range(30)]
    await asyncio.gather(*(call.read() for call in calls))

    assert await asyncio.wait_for(service.exists(id_, "anna"), 20) is False

    for call in calls:
        call.cancel()


@pytest.mark.parametrize(
    "other",
    [
        {"segment_ids": ["b", "a"]},
        {"segment_ids": ["a"]},
        {"sender_id": "anna"},
        {"shard": Shard(index=0, count=2)},
    ],
    ids=["order of segments", "fewer segments", "sender", "shard"],
)
async def test_a_resume_token_is_bound_to_the_other_arguments(
    sqlite_service: SegmentServer, other: dict[str, object]
) -> None:
    for id_ in "ab":
        await sqlite_service.listing("x", "y", id_=id_)
    token = (await sqlite_service.pages("a", "b", page_size=1))[0].resume_token
    arguments: dict[str, object] = {"segment_ids": ["a", "b"], "resume_token": token, **other}
    call = sqlite_service.stub.StreamTargets(StreamTargetsRequest(**arguments))  # type: ignore[arg-type]

    refusal = await read_until_refused(call)

    assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "INVALID_RESUME_TOKEN")
    assert refusal.fields == ("resume_token",)


async def test_a_resume_token_holds_for_any_page_size_and_for_no_shard_as_for_one(
    sqlite_service: SegmentServer,
) -> None:
    id_ = await sqlite_service.listing(*"abc")
    token = (await sqlite_service.pages(id_, page_size=1))[0].resume_token

    for shard in (None, Shard(), Shard(count=1)):
        rest = await sqlite_service.targets(id_, page_size=5, resume_token=token, shard=shard)
        assert rest == ["b", "c"]


async def test_a_page_token_is_no_resume_token(sqlite_service: SegmentServer) -> None:
    id_ = await sqlite_service.listing(*"abc")
    token = (await sqlite_service.query_targets(id_, page_size=1)).next_page_token

    refusal = await refused(sqlite_service.targets(id_, resume_token=token))

    assert refusal.reason == "INVALID_RESUME_TOKEN"


async def test_a_small_shard_goes_on_over_stretches_that_have_none_of_it(
    service: SegmentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segment_service.sql.target_pages._MAX_SCANNED", 5)
    names = [f"{number:03}" for number in range(100)]
    id_ = await service.listing(*names)

    seen: list[str] = []
    for index in range(30):
        pages = await service.pages(id_, page_size=2, shard=Shard(index=index, count=30))
        assert all(1 <= len(page.target_ids) <= 2 for page in pages)
        seen += [target for page in pages for target in page.target_ids]

    assert sorted(seen) == names


async def test_a_shard_is_the_same_part_in_lists_filters_and_unions(service: SegmentServer) -> None:
    names = [f"user-{number}" for number in range(300)]
    await service.people(names)
    listing, everybody = await service.listing(*names), await service.all_users()

    for index in range(3):
        shard = Shard(index=index, count=3)
        part = await service.targets(listing, shard=shard)
        assert await service.targets(everybody, shard=shard) == part
        assert await service.targets(listing, everybody, shard=shard, page_size=7) == part
        # three equal parts, give or take
        assert 70 < len(part) < 130


@pytest.mark.parametrize("type_", [USER, CHANNEL], ids=["users", "channels"])
async def test_segments_of_one_type_with_one_of_the_other_are_refused(
    service: SegmentServer, type_: "object"
) -> None:
    other = CHANNEL if type_ == USER else USER
    first = await service.listing(type_=type_)
    second = await service.listing(type_=other)

    for call in (service.targets(first, second), service.count(first, second)):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "SEGMENT_TYPES_MIXED")
        assert refusal.metadata == {"field": "segment_ids", "segment_id": second}
        assert refusal.fields == ("segment_ids",)
