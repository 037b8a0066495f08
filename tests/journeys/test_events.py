"""What a campaign does is told: to a webhook and as a stream, whatever is killed meanwhile."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier

from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as campaign_pb
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as chat_pb
from herald.event.v1 import event_pb2
from herald.event.v1 import event_service_pb2 as pb
from tests.harness import forkserver, hello_campaign
from tests.harness.processes import Pair, running_pair
from tests.harness.webhook_receiver import Receiver, receiving

T = TypeVar("T")

CALL_SECONDS = 30.0
GUESTS = ["ann", "bob", "cleo"]

pytestmark = pytest.mark.timeout(240)


@pytest.mark.nightly_on("postgresql")
async def test_a_webhook_is_told_of_a_campaign_from_its_start_to_its_end(pair: Pair) -> None:
    async with receiving() as receiver:
        secret = await in_thread(create_webhook, pair, receiver.url)
        await in_thread(add_users, pair, ["acme", *GUESTS])
        await in_thread(start_campaign, pair, GUESTS)
        await receiver.until(lambda: "campaign.completed" in types_at(receiver))

    started, completed = of_type(receiver, "campaign.started", "campaign.completed")
    assert started["campaign"]["status"] == "in_progress"
    assert completed["campaign"]["status"] == "completed"
    assert completed["campaign"]["name"] == "Welcome"
    assert completed["campaign"]["stats"]["messages_sent"] == 3
    assert completed["campaign"]["stats"]["progress"] == 1.0

    messages = of_type(receiver, "message.new")
    assert sorted(event["message"]["text"] for event in messages) == [
        "Hi Ann",
        "Hi Bob",
        "Hi Cleo",
    ]
    assert {event["user"]["name"] for event in messages} == {"Acme"}

    for request in receiver.requests:
        headers = {name.lower(): value for name, value in request.headers.items()}
        Verifier(secret).verify(request.body, headers)


@pytest.fixture
def slow_pair(database_url: str, tmp_path: Path) -> Iterator[Pair]:
    """Both servers, which send in small pages: a kill finds them in the middle."""
    settings = {"HERALD_LEASE_SECONDS": "5", "HERALD_PAGE_SIZE": "50"}
    with running_pair(database_url, tmp_path / "logs", settings, forkserver.run) as running:
        yield running


@pytest.mark.nightly
async def test_no_event_is_missing_or_out_of_order_when_the_server_is_killed_again_and_again(
    slow_pair: Pair,
) -> None:
    pair = slow_pair
    guests = [f"guest-{number:04}" for number in range(900)]
    async with receiving() as receiver:
        await in_thread(create_webhook, pair, receiver.url, max_batch_events=20)
        await in_thread(add_users, pair, ["acme", *guests])
        await in_thread(start_campaign, pair, guests)
        for kills in range(1, 4):
            await receiver.until(partial(has_got, receiver, kills * 10))
            await in_thread(pair.campaign.kill)
            await in_thread(pair.campaign.start)
        await receiver.until(lambda: "campaign.completed" in types_at(receiver))
    streamed = await in_thread(stream_until_completed, pair)

    ids = [event.id for event in streamed]
    assert len(set(ids)) == len(ids)
    assert [event["id"] for event in receiver.first_arrivals] == ids
    assert sorted(
        str(event.payload["channel_id"]) for event in streamed if event.type == "message.new"
    ) == [f"{guest}-acme" for guest in guests]


@pytest.mark.nightly
async def test_no_event_is_missing_or_out_of_order_when_dispatchers_are_killed_again_and_again(
    database_url: str, tmp_path: Path
) -> None:
    settings = {"HERALD_LEASE_SECONDS": "1", "HERALD_DISPATCHER_PROCESSES": "1"}
    guests = [f"guest-{number:04}" for number in range(600)]
    with running_pair(database_url, tmp_path / "logs", settings, forkserver.run) as pair:
        async with receiving() as receiver:
            await in_thread(create_webhook, pair, receiver.url, max_batch_events=10)
            await in_thread(add_users, pair, ["acme", *guests])
            await in_thread(start_campaign, pair, guests)
            for kills in range(1, 4):
                await receiver.until(partial(has_got, receiver, kills * 10))
                _, dispatcher = pair.campaign.processes()
                os.kill(dispatcher, signal.SIGKILL)
            await receiver.until(lambda: "campaign.completed" in types_at(receiver))
        streamed = await in_thread(stream_until_completed, pair)

    assert [event["id"] for event in receiver.first_arrivals] == [event.id for event in streamed]
    assert len(of_type(receiver, "message.new")) == len(guests)


@pytest.mark.nightly
async def test_a_dispatcher_without_a_server_delivers_what_a_killed_server_has_left(
    sqlite_url: str, tmp_path: Path
) -> None:
    is_up = False

    async def refuse_at_first(_: web.Request) -> web.StreamResponse | None:
        return None if is_up else web.Response(status=503)

    async with receiving(refuse_at_first) as receiver:
        with running_pair(sqlite_url, tmp_path, run=forkserver.run) as pair:
            await in_thread(create_webhook, pair, receiver.url)
            await in_thread(add_users, pair, ["acme", *GUESTS])
            await in_thread(start_campaign, pair, GUESTS)
            streamed = await in_thread(stream_until_completed, pair)
        is_up = True
        log = tmp_path / "dispatch.log"
        environment = {"HERALD_DATABASE_URL": sqlite_url}
        process = forkserver.ForkedProcess(
            forkserver.start("campaign_service", environment, log, "dispatch")
        )
        try:
            await receiver.until(lambda: "campaign.completed" in types_at(receiver))
        finally:
            process.send_signal(signal.SIGTERM)
            code = await in_thread(process.wait, CALL_SECONDS)

    assert [event["id"] for event in receiver.first_arrivals] == [event.id for event in streamed]
    assert code == 0
    assert '"stopped"' in log.read_text()


@pytest.mark.nightly
def test_a_stream_that_is_resumed_with_the_last_token_after_each_of_20_kills_has_no_gap(
    postgres_url: str, tmp_path: Path
) -> None:
    # one process, which starts quickly
    settings = {
        "HERALD_LEASE_SECONDS": "1",
        "HERALD_PAGE_SIZE": "5",
        "HERALD_SENDER_PROCESSES": "0",
    }
    guests = [f"guest-{number:02}" for number in range(30)]
    ids = [f"c{number:02}" for number in range(20)]
    with running_pair(postgres_url, tmp_path / "logs", settings, forkserver.run) as pair:
        add_users(pair, ["acme", *guests])
        events: list[event_pb2.Event] = []
        token = ""
        for id_ in ids:
            start_campaign(pair, guests, id_)
            # killed when it has told the first of this campaign's messages
            for response in streamed_from(pair, token):
                events, token = [*events, *response.events], response.token
                if any(each.campaign_id == id_ for each in of_messages(response.events)):
                    break
            pair.campaign.kill()
            pair.campaign.start()
        for response in streamed_from(pair, token):
            events += response.events
            if len(completed(events)) == len(ids):
                break
        whole: list[event_pb2.Event] = []
        for response in streamed_from(pair, ""):
            whole += response.events
            if len(completed(whole)) == len(ids):
                break

    assert [event.id for event in events] == [event.id for event in whole], "no gap, no repetition"
    assert len(of_messages(events)) == len(ids) * len(guests)


def streamed_from(pair: Pair, token: str) -> Iterator[pb.StreamEventsResponse]:
    yield from pair.events.StreamEvents(pb.StreamEventsRequest(after=token), wait_for_ready=True)


def of_messages(events: Iterable[event_pb2.Event]) -> list[event_pb2.Event]:
    return [event for event in events if event.type == "message.new"]


def completed(events: Iterable[event_pb2.Event]) -> set[str]:
    return {event.campaign_id for event in events if event.type == "campaign.completed"}


def create_webhook(pair: Pair, url: str, **fields: Any) -> str:
    """Its secret."""
    webhook = event_pb2.Webhook(id="crm", url=url, **fields)
    request = pb.CreateWebhookRequest(webhook=webhook)
    created = pair.events.CreateWebhook(request, timeout=CALL_SECONDS, wait_for_ready=True)
    return created.webhook.secret


def add_users(pair: Pair, ids: list[str]) -> None:
    for begin in range(0, len(ids), 1_000):
        users = [chat_pb2.User(id=id_, name=id_.title()) for id_ in ids[begin : begin + 1_000]]
        request = chat_pb.UpsertUsersRequest(users=users)
        pair.chat.UpsertUsers(request, timeout=CALL_SECONDS, wait_for_ready=True)


def start_campaign(pair: Pair, guests: list[str], id_: str = "welcome", **fields: Any) -> None:
    campaign = campaign_pb2.Campaign(
        id=id_,
        name="Welcome",
        sender_id="acme",
        user_ids=guests,
        message_template=campaign_pb2.MessageTemplate(text="Hi {{ receiver.name }}"),
        create_channels=True,
        channel_template=campaign_pb2.ChannelTemplate(
            type="messaging", id=hello_campaign.CHANNEL_ID
        ),
        **fields,
    )
    request = campaign_pb.CreateCampaignRequest(campaign=campaign)
    pair.campaigns.CreateCampaign(request, timeout=CALL_SECONDS, wait_for_ready=True)
    start = campaign_pb.StartCampaignRequest(id=id_)
    pair.campaigns.StartCampaign(start, timeout=CALL_SECONDS, wait_for_ready=True)


def stream_until_completed(pair: Pair) -> list[event_pb2.Event]:
    """From the first event on."""
    events: list[event_pb2.Event] = []
    call = pair.events.StreamEvents(pb.StreamEventsRequest(), wait_for_ready=True)
    for response in call:
        events += response.events
        if any(event.type == "campaign.completed" for event in response.events):
            call.cancel()
            return events
    raise AssertionError("the stream has ended")


def has_got(receiver: Receiver, requests: int) -> bool:
    return len(receiver.requests) >= requests


def of_type(receiver: Receiver, *types: str) -> list[Any]:
    return [event for event in receiver.first_arrivals if event["type"] in types]


def types_at(receiver: Receiver) -> list[str]:
    return [event["type"] for event in receiver.first_arrivals]


async def in_thread(work: Callable[..., T], *args: Any, **options: Any) -> T:
    """The receiver goes on meanwhile."""
    return await asyncio.to_thread(work, *args, **options)
