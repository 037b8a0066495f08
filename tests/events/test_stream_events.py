"""StreamEvents through the real servers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import grpc
import pytest

from campaign_service.campaigns.errors import EventsExpiredError
from campaign_service.campaigns.events import Offset
from campaign_service.events.tail import EventTail
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.event_log import SqlEventLog
from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_service_pb2 as campaign_pb
from herald.event.v1 import event_pb2
from herald.event.v1 import event_service_pb2 as pb
from tests.campaign.builders import MOMENT, SENDER_ID, a_campaign_message, a_spec, a_user
from tests.campaign.refusals import refusal_of
from tests.campaign.server_pair import ServerPair, start_pair
from tests.events.reading import EVERYTHING, a_reader

pytestmark = pytest.mark.nightly_on("postgresql")

MOST_BYTES = 4 * 1024 * 1024
EVERYONE = [f"u{number:02}" for number in range(20)]


@pytest.fixture
async def services(database: Database, database_url: str) -> AsyncIterator[ServerPair]:
    """With a draft to twenty users, who are sent to in pages of five."""
    users = [a_user(id_) for id_ in [SENDER_ID, *EVERYONE]]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    # a grace beyond the test's own time-out: a stream that does not end by itself fails
    async with start_pair(database_url, page_size=5, grace_seconds=300) as services:
        await services.create(a_campaign_message({"user_ids": EVERYONE}))
        yield services


def stream(services: ServerPair, after: str = "", types: tuple[str, ...] = ()) -> Any:
    return services.events.StreamEvents(pb.StreamEventsRequest(after=after, types=types))


async def events_until(call: Any, type_: str) -> tuple[list[event_pb2.Event], str]:
    """Up to the first event of the type, or further, and the token after them."""
    events: list[event_pb2.Event] = []
    while not any(event.type == type_ for event in events):
        response = await call.read()
        assert response is not grpc.aio.EOF
        events += response.events
    return events, response.token


def messaged(events: list[event_pb2.Event]) -> list[str]:
    return [
        str(event.payload["channel_id"]).removesuffix(f"-{SENDER_ID}")
        for event in events
        if event.type == "message.new"
    ]


async def test_a_stream_tells_of_a_campaign_from_its_creation_to_its_end(
    services: ServerPair,
) -> None:
    call = stream(services)
    await services.start()

    events, _ = await events_until(call, "campaign.completed")

    types = [event.type for event in events]
    assert types[:2] == ["campaign.updated", "campaign.started"]
    assert types[2:-1] == ["channel.created", "message.new"] * len(EVERYONE)
    assert sorted(messaged(events)) == EVERYONE
    campaign: Any = events[-1].payload["campaign"]
    assert (campaign["status"], campaign["stats"]["messages_sent"]) == ("completed", 20)
    assert all(event.campaign_id == "spring" for event in events)
    assert all(event.payload["id"] == event.id for event in events)


@pytest.mark.nightly
async def test_a_stream_that_is_resumed_after_every_restart_has_no_gap_and_no_repetition(
    services: ServerPair,
) -> None:
    slow = {"id": "slow", "user_ids": EVERYONE, "max_messages_per_second": 20}
    await services.create(a_campaign_message(slow))
    await services.start("slow")
    events: list[event_pb2.Event] = []
    token, streams = "", 0
    while not any(event.type == "campaign.completed" for event in events):
        response = await stream(services, token).read()
        events, token, streams = [*events, *response.events], response.token, streams + 1
        await services.campaign.stop()
        await services.restart_campaign()

    whole, _ = await events_until(stream(services), "campaign.completed")
    assert [event.id for event in events] == [event.id for event in whole]
    assert streams > 1
    assert sorted(messaged(whole)) == EVERYONE


async def test_two_streams_see_the_same_order(services: ServerPair) -> None:
    first, second = stream(services), stream(services)
    await services.create(a_campaign_message({"id": "summer", "user_ids": EVERYONE[:5]}))
    await services.start()
    await services.start("summer")
    await services.until_completed()
    await services.until_completed("summer")
    await services.campaigns.DeleteCampaign(campaign_pb.DeleteCampaignRequest(id="summer"))
    end = await services.create(a_campaign_message({"id": "end"}))

    async def until_the_end(call: Any) -> list[str]:
        ids: list[str] = []
        while True:
            for event in (await call.read()).events:
                ids.append(event.id)
                if event.campaign_id == end.id:
                    return ids

    assert await until_the_end(first) == await until_the_end(second)


async def test_only_events_of_the_given_types_are_streamed(services: ServerPair) -> None:
    await services.start()
    await services.until_completed()

    events, token = await events_until(
        stream(services, types=("campaign.started", "campaign.completed")), "campaign.completed"
    )
    assert [event.type for event in events] == ["campaign.started", "campaign.completed"]

    # the token stands behind the others, too
    await services.create(a_campaign_message({"id": "next"}))
    events, _ = await events_until(stream(services, token), "campaign.updated")
    assert [event.campaign_id for event in events] == ["next"]


async def test_large_events_come_in_several_answers_that_can_each_be_resumed(
    services: ServerPair,
) -> None:
    """Twenty messages of 80 kB, which are read from the log together."""
    text = {"text": "{{ '\U0001f98a' * 20000 }}"}
    large = {"id": "large", "user_ids": EVERYONE, "message_template": text}
    await services.create(a_campaign_message(large))
    await services.start("large")
    await services.until_completed("large")

    call = stream(services, types=("message.new",))
    answers: list[pb.StreamEventsResponse] = []
    while sum(len(answer.events) for answer in answers) < len(EVERYONE):
        answers.append(await call.read())

    assert len(answers) > 1
    assert max(answer.ByteSize() for answer in answers) < MOST_BYTES
    assert sorted(messaged([event for answer in answers for event in answer.events])) == EVERYONE
    for answer, following in pairwise(answers):
        resumed = await stream(services, answer.token, types=("message.new",)).read()
        assert resumed.events[0] == following.events[0]


async def test_a_stream_ends_with_its_server(services: ServerPair) -> None:
    call = stream(services)
    await events_until(call, "campaign.updated")
    # the next answer is waited for
    reading = asyncio.ensure_future(call.read())
    await services.campaign.stop()

    refusal = await refusal_of(reading)

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    await services.restart_campaign()


async def test_who_does_not_read_on_holds_up_nobody(services: ServerPair) -> None:
    silent = stream(services)
    await silent.read()

    await services.start()

    events, _ = await events_until(stream(services), "campaign.completed")
    assert sorted(messaged(events)) == EVERYONE


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (pb.StreamEventsRequest(after="nonsense"), "INVALID_RESUME_TOKEN", "after"),
        pytest.param(
            pb.StreamEventsRequest(after="é"), "INVALID_RESUME_TOKEN", "after", id="not ascii"
        ),
        (pb.StreamEventsRequest(types=["message.new", "nope"]), "INVALID_FIELD", "types[1]"),
        (pb.StreamEventsRequest(types=[""]), "INVALID_FIELD", "types[0]"),
    ],
)
async def test_what_is_no_offset_or_no_type_is_refused(
    refusing_services: ServerPair, request_: pb.StreamEventsRequest, reason: str, field: str
) -> None:
    refusal = await refusal_of(refusing_services.events.StreamEvents(request_).read())

    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.reason, refusal.fields) == (reason, (field,))
    assert refusal.metadata == {"field": field}


async def test_a_token_of_another_database_is_refused(
    services: ServerPair, refusing_services: ServerPair
) -> None:
    _, token = await events_until(stream(services), "campaign.updated")

    refusal = await refusal_of(stream(refusing_services, token).read())

    assert (refusal.reason, refusal.fields) == ("INVALID_RESUME_TOKEN", ("after",))


async def test_a_token_older_than_the_retention_is_refused_with_a_reason_of_its_own(
    services: ServerPair, database: Database
) -> None:
    _, token = await events_until(stream(services), "campaign.updated")
    for number in range(3):
        await services.create(a_campaign_message({"id": f"c{number}"}))
    log = SqlEventLog(database)
    await log.ends()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert await log.forget(tomorrow, most=2) == 2

    refusal = await refusal_of(stream(services, token).read())

    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "RESUME_TOKEN_EXPIRED",
    )
    assert refusal.preconditions == {"after": "EVENTS_EXPIRED"}
    events, _ = await events_until(stream(services), "campaign.updated")
    assert [event.campaign_id for event in events] == ["c1", "c2"], "from the oldest that is kept"


async def test_a_reader_that_is_overtaken_by_the_retention_is_told_so(database: Database) -> None:
    store, log = SqlCampaignStore(database), SqlEventLog(database)
    await store.create("one", a_spec(), MOMENT, to_channels=False)
    pages = EventTail(a_reader(database), bookmark_seconds=0.001).follow(None, EVERYTHING)
    first = await anext(pages)
    for id_ in ("two", "three"):
        await store.create(id_, a_spec(), MOMENT, to_channels=False)
    await log.ends()
    await log.forget(MOMENT + timedelta(days=1), most=2)

    assert [event.campaign_id for event in first.events] == ["one"]
    with pytest.raises(EventsExpiredError):
        await anext(pages)


async def test_an_idle_stream_gets_bookmarks(database: Database) -> None:
    await SqlCampaignStore(database).create("one", a_spec(), MOMENT, to_channels=False)
    tail = EventTail(a_reader(database), bookmark_seconds=0.001)
    pages = tail.follow(None, EVERYTHING)

    first, second, third = [await anext(pages) for _ in range(3)]
    await pages.aclose()

    assert (len(first.events), second.events, third.events) == (1, (), ())
    assert first.offset == second.offset == third.offset == Offset(2)
