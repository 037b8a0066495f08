"""A preview is what is then sent, word for word, and leaves no trace."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from sqlalchemy import Table, func, select

import campaign_service.storage.tables
import chat_store.sql.tables
import segment_service.sql.tables
from campaign_service.campaigns.errors import SegmentServiceUnavailableError
from campaign_service.campaigns.ids import message_id, message_id_prefix
from campaign_service.campaigns.model import CampaignSpec
from campaign_service.campaigns.outcomes import PreviewRequest
from campaign_service.lifecycle import preview
from campaign_service.lifecycle.lifecycle import Lifecycle
from campaign_service.lifecycle.preview import Previews
from campaign_service.lifecycle.references import ReferenceChecker
from campaign_service.segment_client import SegmentClient
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database, open_database
from chat_store.filters.predicates import AllOf
from chat_store.models import Channel, Message
from chat_store.paging import PageRequest
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.segment.v1 import segment_pb2, segment_service_pb2_grpc
from herald.segment.v1 import segment_service_pb2 as segment_service_pb
from herald_rpc.wire.messages import message_to_proto
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_campaign_message,
    a_channel,
    a_spec,
    a_user,
)
from tests.campaign.refusals import refusal_of
from tests.campaign.server_pair import ServerPair, start_pair

pytestmark = pytest.mark.nightly_on("postgresql")

SENT, SKIPPED, FAILED = (
    campaign_pb2.DELIVERY_OUTCOME_SENT,
    campaign_pb2.DELIVERY_OUTCOME_SKIPPED,
    campaign_pb2.DELIVERY_OUTCOME_FAILED,
)
ALL = PageRequest(1_000)
CROWD = [f"u{number:03}" for number in range(100)]
MORE = [f"v{number:03}" for number in range(20)]
PEOPLE = ["acme", "ann", "bob", "carl", "dora", "emil", "Zoe", "nobody"]
CHANNELS = [
    a_channel("bob-acme", custom={"topic": "tea"}, name="Bob's"),
    a_channel("emil-acme", frozen=True),
    a_channel("away"),
]
OF_USERS = {
    "sender_mode": "SENDER_MODE_INCLUDE",
    "message_template": {
        "text": "Hi {{ receiver.name }}! {{ channel.cid }} {{ channel.team }} {{ channel.topic }} "
        "{{ channel.member_count }} {{ channel.created_by_id }}",
        "attachments": [{"title": "{{ custom.country }}", "age": "{{ receiver.age }}"}, {"n": 1}],
        "custom": {
            "age": "{{ receiver.age }}",
            "brand": "{{ sender.brand }}",
            "all": "{{ custom }}",
            "campaign_id": "mine",
        },
        "poll_id": "poll",
        "searchable": True,
    },
    "channel_template": {
        "type": "messaging",
        "id": "{{ receiver.id }}-{{ sender.id }}",
        "team": "red",
        "custom": {"topic": "for {{ receiver.name }}"},
        "members": ["ann", "extra"],
    },
}
OF_CHANNELS = {
    "message_template": {
        "text": "{{ channel.name }} {{ custom.topic }} {{ channel.member_count }}",
        "custom": {"topic": "{{ channel.topic }}"},
    },
    "channel_template": None,
    "create_channels": None,
}
DISTINCT = {"type": "messaging", "custom": {"topic": "we"}, "members": ["extra"]}
AUDIENCES: dict[str, dict[str, Any]] = {
    "segments of users": {"segment_ids": ["people", "named"], "user_ids": None, **OF_USERS},
    "users": {"user_ids": PEOPLE, **OF_USERS},
    "a list of channels": {"segment_ids": ["rooms"], "user_ids": None, **OF_CHANNELS},
    "all channels of the sender": {"segment_ids": ["own"], "user_ids": None, **OF_CHANNELS},
}
# which differ in the channels only, and not by database
ADDRESSES: dict[str, dict[str, Any]] = {
    "distinct channels": {**OF_USERS, "channel_template": DISTINCT},
    "channels without others": {
        **OF_USERS,
        "sender_mode": "SENDER_MODE_EXCLUDE",
        "channel_template": {"type": "messaging"},
    },
    "what is there": {**OF_USERS, "create_channels": False},
    "what is there without a template": {"create_channels": None, "channel_template": None},
}


async def populate(database: Database) -> None:
    chat = sql_chat_store(database)
    now = datetime.now(UTC)
    users = [
        a_user("acme", custom={"brand": "ACME"}),
        a_user("ann", custom={"age": 31, "country": "France"}),
        a_user("bob", custom={"country": "USA", "likes": ["tea", {"a": None}]}),
        *(a_user(id_) for id_ in ("carl", "dora", "emil", "Zoe", "extra")),
    ]
    await chat.users.upsert(users, now)
    await chat.users.deactivate(["carl"], now)
    await chat.users.delete(["dora"], now)
    members = {"bob-acme": ["bob", "acme"], "away": ["bob"]}
    drafts = [ChannelDraft(channel, members.get(channel.id, ["acme"])) for channel in CHANNELS]
    await chat.channels.upsert(drafts, now)
    # the id that Zoe's message would get
    id_ = message_id(message_id_prefix("spring"), "Zoe")
    imported = Message(id=id_, cid="messaging:away", user_id="bob", text="before the campaign")
    await chat.messages.upsert([imported], now)


async def make_segments(services: ServerPair) -> None:
    await services.add_list("people", PEOPLE)
    cids = [*(channel.cid for channel in CHANNELS), "messaging:never"]
    await services.add_list("rooms", cids, segment_pb2.SEGMENT_TYPE_CHANNEL)
    named = segment_pb2.Segment(id="named", type=segment_pb2.SEGMENT_TYPE_USER)
    named.filter.update({"id": {"$in": PEOPLE}})
    await services.create_segment(named)
    own = segment_pb2.Segment(
        id="own", type=segment_pb2.SEGMENT_TYPE_CHANNEL, all_sender_channels=True
    )
    await services.create_segment(own)


async def previews(services: ServerPair, **changes: Any) -> list[campaign_pb2.Preview]:
    request = pb.PreviewCampaignRequest(**changes)
    return list((await services.campaigns.PreviewCampaign(request)).previews)


async def channels_in(database: Database) -> dict[str, Channel]:
    page = await sql_chat_store(database).channels.query(AllOf("filter", ()), ALL)
    return {channel.cid: channel for channel in page.items}


async def row_counts(database: Database) -> dict[str, int]:
    packages = (campaign_service.storage.tables, chat_store.sql.tables, segment_service.sql.tables)
    tables: list[Table] = [t for package in packages for t in package.metadata.sorted_tables]
    async with database.snapshot() as connection:
        return {
            table.name: await connection.scalar(select(func.count()).select_from(table)) or 0
            for table in tables
        }


@pytest_asyncio.fixture(scope="module")
async def previewing(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ServerPair]:
    """For previews of what is never sent."""
    folder = tmp_path_factory.mktemp("previewing")
    url = f"sqlite+aiosqlite:///{shutil.copy(sqlite_template, folder / 'herald.db')}"
    database = open_database(url)
    await populate(database)
    await sql_chat_store(database).users.upsert([a_user(id_) for id_ in CROWD], MOMENT)
    await database.close()
    async with start_pair(url, multi_tenancy=True) as services:
        await services.add_list("crowd", [*CROWD, *MORE])
        yield services


@pytest.fixture
async def sqlite(sqlite_url: str) -> AsyncIterator[Database]:
    """For what is the same on every database."""
    opened = open_database(sqlite_url)
    yield opened
    await opened.close()


# --- the same as what is sent


@pytest.mark.nightly_on("channels", "-users]")
@pytest.mark.parametrize("audience", AUDIENCES)
async def test_a_preview_is_what_is_then_sent_and_writes_nothing(
    database: Database, database_url: str, audience: str
) -> None:
    await assert_sent_as_previewed(database, database_url, AUDIENCES[audience])


@pytest.mark.nightly
@pytest.mark.parametrize("address", ADDRESSES)
async def test_a_preview_goes_where_the_message_goes(
    sqlite: Database, sqlite_url: str, address: str
) -> None:
    await assert_sent_as_previewed(
        sqlite, sqlite_url, {"user_ids": PEOPLE[::-1], **ADDRESSES[address]}
    )


async def assert_sent_as_previewed(
    database: Database, database_url: str, changes: dict[str, Any]
) -> None:
    await populate(database)
    chat = sql_chat_store(database)
    campaign = a_campaign_message(changes)
    async with start_pair(database_url, page_size=3) as services:
        await make_segments(services)
        await services.create(campaign)
        rows, before = await row_counts(database), await channels_in(database)
        seen = await previews(services, id="spring", sample_size=100)
        assert await previews(services, campaign=campaign, sample_size=100) == seen
        assert await row_counts(database) == rows
        await services.start()
        done = await services.until_completed()
        request = pb.QueryDeliveriesRequest(campaign_id="spring", page_size=1_000)
        deliveries = (await services.campaigns.QueryDeliveries(request)).deliveries
        again = await previews(services, id="spring", sample_size=100)

    assert [each.target_id for each in seen] == [each.target_id for each in deliveries]
    assert [each.outcome for each in seen] == [each.outcome for each in deliveries]
    assert [each.reason for each in seen] == [each.reason for each in deliveries]
    assert [each.cid for each in seen] == [each.cid for each in deliveries]
    stored = [message_to_proto(m) for m in (await chat.messages.of_campaign("spring", ALL)).items]
    for message in stored:
        message.ClearField("created_at")
    assert [each.message for each in seen if each.HasField("message")] == stored
    assert done.stats.messages_sent == len(stored) > 0
    made = {each.cid for each in seen if each.channel_would_be_created}
    after = await channels_in(database)
    assert made == set(after) - set(before)
    assert len(made) == done.stats.channels_created
    for each in seen:
        # the topic and the members that the text tells of are the channel's
        if each.cid in made:
            assert f" {after[each.cid].custom.get('topic', '')} " in each.message.text
            assert f" {after[each.cid].member_count} " in each.message.text
    assert not any(each.channel_would_be_created for each in again)


async def test_receivers_come_in_the_order_asked_for_and_need_not_be_in_the_audience(
    previewing: ServerPair,
) -> None:
    campaign = a_campaign_message({"user_ids": ["Zoe"]})
    asked = ["emil", "bob", "stranger", "bob", "ann", "emil"]
    found = await previews(previewing, campaign=campaign, receiver_ids=asked)

    assert [(each.target_id, each.outcome, each.cid) for each in found] == [
        ("emil", SKIPPED, "messaging:emil-acme"),
        ("bob", SENT, "messaging:bob-acme"),
        ("stranger", SKIPPED, ""),
        ("ann", SENT, "messaging:ann-acme"),
    ]
    assert [each.channel_would_be_created for each in found] == [False, False, False, True]
    assert [each.HasField("message") for each in found] == [False, True, False, True]


async def test_members_who_would_share_a_new_channel_all_see_it_made(
    previewing: ServerPair,
) -> None:
    template = {"type": "messaging", "id": "lobby", "custom": {"first": "{{ receiver.id }}"},
                "members": ["bob"]}  # fmt: skip
    text = {"text": "{{ channel.first }}"}
    campaign = a_campaign_message({"channel_template": template, "message_template": text})
    found = await previews(previewing, campaign=campaign)

    assert [each.message.text for each in found] == ["ann", "ann"]
    assert [each.channel_would_be_created for each in found] == [True, True]


@pytest.mark.parametrize(
    "audience",
    [{"segment_ids": ["crowd"], "user_ids": None}, {"user_ids": [*MORE, *CROWD[::-1]]}],
    ids=["segment", "users"],
)
@pytest.mark.parametrize(("asked", "given"), [(0, 10), (3, 3), (100, 100), (2**31 - 1, 100)])
async def test_a_sample_is_the_beginning_of_the_audience(
    previewing: ServerPair, audience: dict[str, Any], asked: int, given: int
) -> None:
    campaign = a_campaign_message(audience)
    found = await previews(previewing, campaign=campaign, sample_size=asked)

    assert [each.target_id for each in found] == CROWD[:given]


@pytest.mark.parametrize(
    ("template", "cid"),
    [
        ({"type": "messaging", "id": "{{ receiver.id }}"}, "messaging:ann"),
        # the id of the channel would be made of the campaign's
        ({"type": "messaging"}, ""),
    ],
    ids=["named", "derived"],
)
@pytest.mark.parametrize("create", [True, False])
async def test_what_depends_on_an_id_that_is_not_there_is_left_out(
    previewing: ServerPair, template: dict[str, Any], cid: str, *, create: bool
) -> None:
    changes = {
        "id": None,
        "user_ids": ["ann"],
        "sender_mode": "SENDER_MODE_EXCLUDE",
        "channel_template": template,
        "create_channels": create,
        "message_template": {"text": "Hi", "custom": {"a": "{{ receiver.id }}"}},
    }
    (found,) = await previews(previewing, campaign=a_campaign_message(changes))

    assert (found.outcome == SENT, found.cid, found.channel_would_be_created) == (
        create,
        cid,
        create,
    )
    message = found.message
    assert (message.id, message.campaign_id) == ("", "")
    if create:
        assert (message.cid, message.text, message.user_id) == (cid, "Hi", SENDER_ID)
        assert dict(message.custom) == {"a": "ann"}


async def test_a_hostile_template_fails_its_receiver_alone(previewing: ServerPair) -> None:
    bomb = "{% for a in 'x' * 9000 %}{% for b in 'x' * 9000 %}x{% endfor %}{% endfor %}"
    text = {"text": f"{{% if receiver.id == 'ann' %}}{bomb}{{% else %}}Hi{{% endif %}}"}
    campaign = a_campaign_message({"message_template": text})
    found = await previews(previewing, campaign=campaign)

    assert [(each.target_id, each.outcome) for each in found] == [("ann", FAILED), ("bob", SENT)]
    assert found[0].reason == campaign_pb2.DELIVERY_REASON_TEMPLATE_ERROR
    assert (found[0].cid, found[1].message.text) == ("", "Hi")


async def test_previews_end_where_the_answer_would_be_too_large(previewing: ServerPair) -> None:
    text = {"text": "{{ '€' * 20000 }}"}
    campaign = a_campaign_message({"message_template": text})
    found = await previews(previewing, campaign=campaign, receiver_ids=CROWD)

    assert [each.target_id for each in found] == CROWD[: len(found)]
    assert 60 < len(found) < 80


@pytest.mark.parametrize(("team", "outcome"), [("red", SKIPPED), ("", SENT)])
async def test_a_preview_knows_the_teams(previewing: ServerPair, team: str, outcome: Any) -> None:
    template = {"type": "messaging", "id": "{{ receiver.id }}", "team": team}
    campaign = a_campaign_message({"channel_template": template})
    (found,) = await previews(previewing, campaign=campaign, receiver_ids=["ann"])

    assert found.outcome == outcome


# --- what is refused

INLINE = a_campaign_message()
BAD_REQUESTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, "INVALID_FIELD", "source"),
    "an empty id": ({"id": ""}, "INVALID_FIELD", "id"),
    "a long id": ({"id": "x" * 256}, "LIMIT_EXCEEDED", "id"),
    "an id with NUL": ({"id": "a\0"}, "INVALID_FIELD", "id"),
    "a negative sample": ({"id": "spring", "sample_size": -1}, "INVALID_FIELD", "sample_size"),
    "a sample and receivers": (
        {"id": "spring", "sample_size": 1, "receiver_ids": ["ann"]},
        "INVALID_FIELD",
        "sample_size",
    ),
    "101 receivers": (
        {"id": "spring", "receiver_ids": ["ann"] * 101},
        "LIMIT_EXCEEDED",
        "receiver_ids",
    ),
    "an empty receiver": (
        {"id": "spring", "receiver_ids": ["ann", ""]},
        "INVALID_FIELD",
        "receiver_ids[1]",
    ),
    "a long receiver": (
        {"id": "spring", "receiver_ids": ["x" * 321]},
        "LIMIT_EXCEEDED",
        "receiver_ids[0]",
    ),
    "an inline long id": (
        {"campaign": a_campaign_message({"id": "x" * 256})},
        "LIMIT_EXCEEDED",
        "campaign.id",
    ),
    "an empty campaign": (
        {"campaign": campaign_pb2.Campaign()},
        "INVALID_FIELD",
        "campaign.sender_id",
    ),
    "no audience": (
        {"campaign": a_campaign_message({"user_ids": None})},
        "INVALID_FIELD",
        "campaign.segment_ids",
    ),
    "a broken template": (
        {"campaign": a_campaign_message({"message_template": {"text": "{{"}})},
        "INVALID_TEMPLATE",
        "campaign.message_template.text",
    ),
    "an inline sender who is gone": (
        {"campaign": a_campaign_message({"sender_id": "gone"})},
        "SENDER_NOT_FOUND",
        "campaign.sender_id",
    ),
    "an inline segment that is gone": (
        {"campaign": a_campaign_message({"user_ids": None, "segment_ids": ["vips", "old"]})},
        "SEGMENT_NOT_FOUND",
        "campaign.segment_ids[1]",
    ),
}


@pytest.mark.parametrize(("request_", "reason", "field"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
async def test_a_bad_request_is_refused_at_its_field(
    refusing_services: ServerPair, request_: dict[str, Any], reason: str, field: str
) -> None:
    await refusing_services.create(INLINE)

    refusal = await refusal_of(previews(refusing_services, **request_))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert (refusal.fields, refusal.metadata["field"]) == ((field,), field)


async def test_an_unknown_and_a_deleted_campaign_are_refused(refusing_services: ServerPair) -> None:
    await refusing_services.create(a_campaign_message({"id": "deleted"}))
    await refusing_services.campaigns.DeleteCampaign(pb.DeleteCampaignRequest(id="deleted"))

    unknown = await refusal_of(previews(refusing_services, id="never"))
    deleted = await refusal_of(previews(refusing_services, id="deleted", receiver_ids=["ann"]))

    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_NOT_FOUND")
    assert (deleted.code, deleted.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "CAMPAIGN_DELETED",
    )


async def test_what_is_gone_since_then_is_a_failed_precondition(
    sqlite: Database, sqlite_url: str
) -> None:
    await populate(sqlite)
    users = sql_chat_store(sqlite).users
    template = {"type": "messaging", "id": "x", "members": ["extra"]}
    async with start_pair(sqlite_url) as services:
        await make_segments(services)
        await services.create(
            a_campaign_message(
                {"user_ids": None, "segment_ids": ["people"], "channel_template": template}
            )
        )
        await services.delete_segment("people")
        refusal = [await refusal_of(previews(services, id="spring", receiver_ids=["ann"]))]
        await users.delete(["extra"], MOMENT)
        refusal.append(await refusal_of(previews(services, id="spring")))
        await users.delete([SENDER_ID], MOMENT)
        refusal.append(await refusal_of(previews(services, id="spring")))

    assert {each.code for each in refusal} == {grpc.StatusCode.FAILED_PRECONDITION}
    assert [each.reason for each in refusal] == [
        "SEGMENT_NOT_FOUND",
        "MEMBER_NOT_FOUND",
        "SENDER_NOT_FOUND",
    ]


@pytest.mark.nightly
async def test_without_the_segment_service_the_call_is_to_be_repeated(
    sqlite: Database, sqlite_url: str
) -> None:
    await populate(sqlite)
    async with start_pair(sqlite_url) as services:
        await make_segments(services)
        to_segment = a_campaign_message({"user_ids": None, "segment_ids": ["people"]})
        await services.create(to_segment)
        await services.segment.stop()
        refusal = [
            await refusal_of(previews(services, id="spring")),
            await refusal_of(previews(services, campaign=to_segment)),
        ]
        to_users = await previews(services, campaign=INLINE)
        await services.restart_segment()

    assert {(each.code, each.reason) for each in refusal} == {
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    }
    assert len(to_users) == 2


# --- a stream of targets that is left early


class Segments(segment_service_pb2_grpc.SegmentServiceServicer):
    """Knows every segment; its stream gives a page again and again, then does as it is told."""

    def __init__(self, pages: int, then: grpc.StatusCode | None) -> None:
        self._pages = pages
        self._then = then
        self.given = 0
        self.left = asyncio.Event()

    async def GetSegment(self, *_: Any) -> Any:  # noqa: N802 - the service's word
        segment = segment_pb2.Segment(id="crowd", type=segment_pb2.SEGMENT_TYPE_USER)
        return segment_service_pb.GetSegmentResponse(segment=segment)

    async def StreamTargets(self, _: Any, context: Any) -> Any:  # noqa: N802 - as above
        try:
            while self.given < self._pages:
                self.given += 1
                target = f"u{self.given:06}"
                yield segment_service_pb.StreamTargetsResponse(
                    target_ids=[target], resume_token=target
                )
            if self._then is not None:
                await context.abort(self._then)
            await asyncio.Event().wait()
        finally:
            self.left.set()


@asynccontextmanager
async def previews_with(database_url: str, servicer: Segments) -> AsyncIterator[Previews]:
    database = open_database(database_url)
    await sql_chat_store(database).users.upsert([a_user(SENDER_ID)], MOMENT)
    server = grpc.aio.server()
    segment_service_pb2_grpc.add_SegmentServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        segments = SegmentClient(channel)
        chat, campaigns = sql_chat_store(database), SqlCampaignStore(database)
        references = ReferenceChecker(chat, segments)
        moves = SqlTransitionStore(database, shards=1)
        lifecycle = Lifecycle(
            campaigns, moves, references, segments, now=lambda: MOMENT, wake=lambda: None
        )
        yield Previews(
            campaigns,
            lifecycle,
            references,
            chat,
            segments,
            now=lambda: MOMENT,
            multi_tenancy=False,
        )
    await server.stop(0)
    await database.close()


def for_a_crowd(size: int) -> PreviewRequest:
    spec: CampaignSpec = a_spec(user_ids=(), segment_ids=("crowd",))
    return PreviewRequest("", spec, (), size)


async def test_the_stream_is_left_when_there_are_enough(sqlite_url: str) -> None:
    servicer = Segments(1_000_000, None)  # type: ignore[abstract]
    async with previews_with(sqlite_url, servicer) as asked:
        found = await asked.of(for_a_crowd(3))
        await servicer.left.wait()

    assert [each.target_id for each in found] == ["u000001", "u000002", "u000003"]
    assert servicer.given < 1_000_000


@pytest.mark.parametrize("pages", [0, 2])
@pytest.mark.parametrize(
    "then",
    [None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL],
    ids=["silent", "unavailable", "broken"],
)
async def test_a_stream_that_does_not_go_on_is_not_waited_for(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, pages: int, then: grpc.StatusCode | None
) -> None:
    monkeypatch.setattr(preview, "_PAGE_SECONDS", 0.3)
    servicer = Segments(pages, then)  # type: ignore[abstract]
    async with previews_with(sqlite_url, servicer) as asked:
        with pytest.raises(SegmentServiceUnavailableError):
            await asked.of(for_a_crowd(3))
        await servicer.left.wait()

    assert servicer.given == pages
