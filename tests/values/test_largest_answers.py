"""The largest content there may be comes back in answers that gRPC's clients receive."""

import json
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from campaign_service.campaigns.limits import MAX_CAMPAIGN_BYTES, MAX_NAME
from chat_store.models import MAX_ATTACHMENTS_BYTES, MAX_CUSTOM_BYTES, MAX_TEXTS_BYTES
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as campaigns
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as chat
from herald.chat.v1.sort_pb2 import Sort
from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as segments
from herald_rpc.wire.structs import to_struct
from tests.segment.refusals import refused
from tests.values.everything import PLACES, Everything
from tests.values.extremes import FOX
from tests.values.requests import populate
from tests.values.walking import walk

INVALID = grpc.StatusCode.INVALID_ARGUMENT
RECEIVED = 4 * 1024 * 1024
# in a token, such a character takes eight bytes
CONTROL = "\x01"

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(300),
    pytest.mark.parametrize("zoned_url", PLACES[:2], ids=" in ".join, indirect=True),
]


def numbers(json_bytes: int) -> list[int]:
    """As a protobuf message 5.5 times as large as in JSON, which is the most there is."""
    return [0] * ((json_bytes - len('{"a":[]}')) // 2)


CUSTOM = to_struct({"a": numbers(MAX_CUSTOM_BYTES)})


def text_for(record: Message, *, beside: int = 0) -> str:
    """A name that leaves no room for another byte of strings in the record."""
    taken = sum(len(value.encode()) for _, value in record.ListFields() if type(value) is str)
    return CONTROL * (MAX_TEXTS_BYTES - taken - beside)


def largest_user(id_: str) -> chat_pb2.User:
    user = chat_pb2.User(id=id_, role="user", custom=CUSTOM, push_preferences=CUSTOM)
    user.name = text_for(user)
    return user


def largest_channel(id_: str) -> chat_pb2.Channel:
    channel = chat_pb2.Channel(type="messaging", id=id_, custom=CUSTOM)
    channel.name = text_for(channel)
    return channel


def largest_device(id_: str) -> chat_pb2.Device:
    device = chat_pb2.Device(id=id_, user_id="ann", push_provider=chat_pb2.PUSH_PROVIDER_APN)
    device.push_provider_name = text_for(device, beside=len("apn"))
    return device


UPSERTS: dict[str, tuple[Any, Any]] = {
    "users": (chat.UpsertUsersRequest, largest_user),
    "channels": (chat.UpsertChannelsRequest, largest_channel),
    "devices": (chat.UpsertDevicesRequest, largest_device),
}
IDS = [f"large-{number:02}" for number in range(40)]


async def upsert(everything: Everything, kind: str, ids: list[str], at_once: int = 20) -> None:
    request, largest = UPSERTS[kind]
    for start in range(0, len(ids), at_once):
        records = [largest(id_) for id_ in ids[start : start + at_once]]
        answer = await everything.ask(request(**{kind: records}))
        assert [record.id for record in getattr(answer, kind)] == ids[start : start + at_once]


@pytest.mark.parametrize("kind", UPSERTS)
async def test_an_upsert_never_fails_in_its_answer(everything: Everything, kind: str) -> None:
    await populate(everything)
    request, largest = UPSERTS[kind]
    await upsert(everything, kind, IDS)
    short: dict[str, dict[str, Any]] = {
        "users": {},
        "channels": {"type": "messaging"},
        "devices": {"user_id": "ann", "push_provider": chat_pb2.PUSH_PROVIDER_APN},
    }
    known = [type(largest("a"))(id=id_, **short[kind]) for id_ in IDS]
    kept = request(**{kind: known}, mode=chat.UPSERT_MODE_INSERT)

    answered = getattr(await everything.ask(kept), kind)

    assert [record.id for record in answered] == IDS
    whole = [record.HasField("created_at") for record in answered]
    assert whole == sorted(whole, reverse=True)
    assert 0 < sum(whole) < len(whole)

    too_large = largest("one")
    name = "push_provider_name" if kind == "devices" else "name"
    setattr(too_large, name, getattr(too_large, name) + "x" * 3)
    refusal = await refused(everything.ask(request(**{kind: [too_large]})))
    assert (refusal.code, refusal.reason) == (INVALID, "LIMIT_EXCEEDED")
    assert refusal.fields == (f"{kind}[0]",)


async def test_an_upsert_of_almost_4_mib_is_answered(everything: Everything) -> None:
    users = [chat_pb2.User(id=f"user-{number:04}") for number in range(1_000)]
    room = RECEIVED - 64 - chat.UpsertUsersRequest(users=users).ByteSize()
    for user in users:
        user.name = "x" * (room // len(users) - 4)
    request = chat.UpsertUsersRequest(users=users)
    assert RECEIVED - 2_000 < request.ByteSize() < RECEIVED

    answer = await everything.ask(request)

    assert [user.id for user in answer.users] == [user.id for user in users]
    pages = await walk(everything, chat.QueryUsersRequest(page_size=1_000), "users")
    assert sum(map(len, pages)) == len(users)


async def test_pages_of_the_largest_records_fit_and_are_complete(everything: Everything) -> None:
    await populate(everything)
    await upsert(everything, "users", IDS)
    await upsert(everything, "channels", IDS)
    joining = [chat_pb2.Member(user_id=id_, channel_role=FOX * 64, custom=CUSTOM) for id_ in IDS]
    add = chat.AddMembersRequest(cid="messaging:general", members=joining)
    await everything.ask(add)
    large = to_struct({"id": {"$in": IDS}})
    sort = [Sort(field="name"), Sort(field="created_at")]
    queries: dict[str, Any] = {
        "users": chat.QueryUsersRequest(filter=large, sort=sort, page_size=1_000),
        "channels": chat.QueryChannelsRequest(filter=large, sort=sort, page_size=1_000),
    }

    for kind, query in queries.items():
        pages = await walk(everything, query, kind)
        assert [record.id for page in pages for record in page] == IDS
        assert len(pages) < len(IDS)
    query = chat.QueryMembersRequest(cid="messaging:general", page_size=1_000)
    pages = await walk(everything, query, "members")
    assert [member.user_id for page in pages for member in page] == ["ann", *IDS]


def imported(kind: str, **data: Any) -> str:
    return json.dumps({"type": kind, "data": data}, ensure_ascii=False)


async def test_the_largest_imported_messages_come_in_pages(everything: Everything) -> None:
    await populate(everything)
    ids = [FOX * 254 + letter for letter in "abc"]
    room = MAX_ATTACHMENTS_BYTES - len("[]")
    lines = [
        imported(
            "message",
            id=id_,
            channel_type="messaging",
            channel_id="general",
            user="ann",
            text=FOX * 20_000,
            attachments=[{"a": numbers(room)}],
            x=numbers(MAX_CUSTOM_BYTES),
        )
        for id_ in ids
    ]
    results = [await everything.imported([line]) for line in lines]

    query = chat.QueryMessagesRequest(cid="messaging:general", page_size=1_000)
    pages = await walk(everything, query, "messages")

    assert [result.failed for result in results] == [0, 0, 0]
    assert {message.id for page in pages for message in page} == set(ids)


async def test_a_record_too_large_for_an_answer_is_not_imported(everything: Everything) -> None:
    await populate(everything)
    message = {"channel_type": "messaging", "channel_id": "general", "user": "ann"}
    lines = [
        imported("user", id="a", name="x" * MAX_TEXTS_BYTES),
        imported("channel", type="messaging", id="b", created_by="ann", team="x" * 200_000),
        imported("message", id="c", **message, poll_id="x" * MAX_TEXTS_BYTES),
        imported("message", id="d", **message, attachments=[{"a": "x" * MAX_ATTACHMENTS_BYTES}]),
        imported(
            "device",
            id="e",
            user_id="ann",
            push_provider_name="x" * MAX_TEXTS_BYTES,
            push_provider_type="apn",
        ),
        imported("user", id="good"),
    ]

    result = await everything.imported(lines)

    assert [error.item_id for error in result.errors] == ["a", "messaging:b", "c", "d", "e"]
    assert result.imported.users == 1


async def test_a_thousand_of_the_longest_import_errors_fit(everything: Everything) -> None:
    missing = FOX * 255
    line = imported("message", id=missing, channel_type="m", channel_id="c", user=missing, text="x")

    result = await everything.imported([line] * 1_000)

    assert len(result.errors) == 1_000
    assert result.ByteSize() > RECEIVED // 4


async def test_a_segment_of_the_largest_filter_can_be_named_and_read(
    everything: Everything,
) -> None:
    await populate(everything)
    filter_ = to_struct({"name": "x" * 950_000})
    ids = IDS[:6]
    user = segment_pb2.SEGMENT_TYPE_USER
    for id_ in ids:
        segment = segment_pb2.Segment(id=id_, type=user, filter=filter_)
        await everything.ask(segments.CreateSegmentRequest(segment=segment))
        named = segment_pb2.Segment(id=id_, name=FOX * 128, description=FOX * 256)
        answer = await everything.ask(segments.UpdateSegmentRequest(segment=named))
        assert answer.segment.filter == filter_

    query = segments.QuerySegmentsRequest(
        filter=to_struct({"id": {"$in": ids}}), sort=[Sort(field="name")], page_size=100
    )
    pages = await walk(everything, query, "segments")

    assert [segment.id for page in pages for segment in page] == ids
    campaign = a_campaign(id="spring", segment_ids=ids)
    created = await everything.ask(campaigns.CreateCampaignRequest(campaign=campaign))
    assert [segment.id for segment in created.campaign.segments] == ids
    whole = [segment.filter == filter_ for segment in created.campaign.segments]
    assert whole == [True, True, True, True, False, False]


async def test_a_filter_that_no_answer_could_hold_is_refused(everything: Everything) -> None:
    segment = segment_pb2.Segment(id="a", type=segment_pb2.SEGMENT_TYPE_USER)
    segment.filter.update({"name": "x"})
    await everything.ask(segments.CreateSegmentRequest(segment=segment))
    segment.filter.Clear()
    segment.filter.update({"name": "x" * 4_193_000})

    refusals = [
        await refused(everything.ask(segments.UpdateSegmentRequest(segment=segment))),
        await refused(everything.ask(segments.CreateSegmentRequest(segment=segment))),
    ]

    assert {refusal.code for refusal in refusals} == {INVALID}
    stored = await everything.ask(segments.GetSegmentRequest(id="a"))
    assert stored.segment.filter == to_struct({"name": "x"})


def nested(lists: int, objects: int, levels: int) -> dict[str, Any]:
    value: Any = "x"
    for _ in range(lists):
        value = [value]
    for _ in range(objects):
        value = {"b": value}
    filter_: dict[str, Any] = {"a": value}
    for _ in range(levels - 1):
        filter_ = {"$and": [filter_]}
    return filter_


@pytest.mark.parametrize("shape", [(0, 0, 20), (1, 18, 9), (4, 16, 9), (0, 17, 10), (3, 15, 10)])
async def test_a_campaign_can_be_read_with_each_segment_there_may_be(
    everything: Everything, shape: tuple[int, int, int]
) -> None:
    await populate(everything)
    segment = segment_pb2.Segment(id="deep", type=segment_pb2.SEGMENT_TYPE_USER)
    segment.filter.CopyFrom(to_struct(nested(*shape)))
    try:
        await everything.ask(segments.CreateSegmentRequest(segment=segment))
    except grpc.aio.AioRpcError as error:
        assert error.code() is INVALID  # noqa: PT017 - either is right
        return
    campaign = a_campaign(id="spring", segment_ids=["deep"])

    answer = await everything.ask(campaigns.CreateCampaignRequest(campaign=campaign))
    watched = await everything.ask(campaigns.WatchCampaignRequest(id="spring"))

    assert answer.campaign.segments[0].filter == segment.filter
    assert watched.campaign.segments[0].filter == segment.filter


def a_campaign(**values: Any) -> campaign_pb2.Campaign:
    written = {"sender_id": "acme", "message_template": {"text": "hi"}, **values}
    return ParseDict(written, campaign_pb2.Campaign())


async def test_the_largest_campaign_with_the_largest_people_is_answered(
    everything: Everything,
) -> None:
    await populate(everything)
    large = IDS[:6]
    await upsert(everything, "users", ["acme", *large])
    users = sorted([*large, *(f"{number:0255}" for number in range(9_900))])
    members = [{"user_id": id_, "channel_role": FOX * 64} for id_ in large]
    template = {"type": "messaging", "custom": {"a": numbers(4_000)}, "members_template": members}
    largest = a_campaign(
        id=FOX * 255,
        name=CONTROL * MAX_NAME,
        user_ids=users,
        channel_template=template,
        message_template={
            "text": FOX * 20_000,
            "attachments": [{"a": numbers(64 * 1024 - len("[]"))}],
            "custom": {"a": numbers(MAX_CUSTOM_BYTES)},
        },
    )
    for step in (1_000_000, 100_000, 10_000, 1_000, 100, 10):
        while largest.ByteSize() - len(largest.id.encode()) + step < MAX_CAMPAIGN_BYTES - 100:
            largest.description += "x" * step
    id_ = largest.id
    await everything.ask(campaigns.CreateCampaignRequest(campaign=largest))
    update = campaigns.UpdateCampaignRequest(campaign=largest)
    start = campaigns.StartCampaignRequest(id=id_)
    start.scheduled_for.FromJsonString("2999-01-01T00:00:00Z")
    for request in (
        update,
        start,
        campaigns.StopCampaignRequest(id=id_),
        campaigns.WatchCampaignRequest(id=id_),
    ):
        answer = await everything.ask(request)
        assert answer.campaign.id == id_
        assert answer.campaign.sender.id == "acme"

    found: list[str] = []
    asked = 0
    get = campaigns.GetCampaignRequest(id=id_, user_page_size=1_000)
    while True:
        asked += 1
        answer = await everything.ask(get)
        assert list(answer.campaign.user_ids) == users
        found += [user.id for user in answer.campaign.users]
        get.user_page_token = answer.next_user_page_token
        if not get.user_page_token:
            break
    query = campaigns.QueryCampaignsRequest(
        sort=[Sort(field="name")], user_limit=1_000, page_size=100
    )
    pages = await walk(everything, query, "campaigns")
    preview = await everything.ask(
        campaigns.PreviewCampaignRequest(id=id_, receiver_ids=[*large, "ann", "bob"])
    )

    assert found == large
    assert asked < 10 + 2 * len(large)
    assert {campaign.id for page in pages for campaign in page} == {"draft", id_}
    targets = [preview.target_id for preview in preview.previews]
    assert targets == [*large, "ann", "bob"][: len(targets)] != []


async def test_ten_thousand_of_the_longest_targets_come_in_pages(everything: Everything) -> None:
    await populate(everything)
    targets = [f"{number:04}{FOX * 251}" for number in range(9_999)]
    for start in range(0, len(targets), 3_333):
        part = targets[start : start + 3_333]
        await everything.ask(segments.AddTargetsRequest(segment_id="list", target_ids=part))
    await everything.ask(
        segments.RemoveTargetsRequest(segment_id="list", target_ids=["ann", "bob"])
    )
    query = segments.QueryTargetsRequest(segment_id="list", page_size=10_000)

    pages = await walk(everything, query, "targets")

    assert [target.target_id for page in pages for target in page] == targets
    streamed: list[str] = []
    stream = segments.StreamTargetsRequest(segment_ids=["list"], page_size=10_000)
    while (answer := await everything.ask(stream)).target_ids:
        streamed += answer.target_ids
        stream.resume_token = answer.resume_token
    assert streamed == targets
