"""Events at real endpoints, which answer well or badly."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier

from campaign_service.campaigns.events import EventType
from campaign_service.campaigns.webhooks import AttemptOutcome
from campaign_service.events.signatures import plain_signature
from campaign_service.storage.holds import SqlHoldStore
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database
from tests.campaign.builders import MOMENT
from tests.campaign.test_runs import a_page, claimed, started
from tests.events.dispatching import SECRET, Deliveries, a_sent_campaign
from tests.events.reading import Consumer
from tests.harness.webhook_receiver import Receiver, answering, receiving

pytestmark = pytest.mark.nightly_on("postgresql")

PEOPLE = [f"p{number:04}" for number in range(120)]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def deliveries(database: Database) -> Deliveries:
    return Deliveries(database, datetime.now(UTC))


def verify(receiver: Receiver, secret: str = SECRET) -> None:
    """By the library of Standard Webhooks, and as receivers of the original do."""
    for request in receiver.requests:
        headers = {name.lower(): value for name, value in request.headers.items()}
        Verifier(secret).verify(request.body, headers)
        assert request.headers["X-Signature"] == plain_signature(secret, request.body)
        assert request.headers["X-Webhook-Id"] == request.id == request.events[0]["id"]


def test_the_signature_is_the_one_of_the_original() -> None:
    body = b'{"type":"message.new","created_at":1778198400000000000}'

    signature = plain_signature("test_secret_do_not_use_in_production", body)

    assert signature == "408ab27d58b18a584d29f2801dde0d5ad20e5f5965039ac88d2ef49014a2c4a7"


async def test_every_event_arrives_in_order_and_signed(
    database: Database, deliveries: Deliveries, receiver: Receiver
) -> None:
    await deliveries.create(receiver.url)
    await a_sent_campaign(database, "spring", PEOPLE)

    await deliveries.deliver()

    logged_ids = [event.id for event in await Consumer(database).drain()]
    assert [event["id"] for event in receiver.first_arrivals] == logged_ids
    assert len(receiver.requests) == len(logged_ids) == len(PEOPLE) + 3
    verify(receiver)
    attempts = await deliveries.all_attempts()
    assert {attempt.outcome for attempt in attempts} == {AttemptOutcome.DELIVERED}
    assert len(attempts) == len(logged_ids)


async def test_what_a_change_says_holds_for_all_that_is_sent_after_it(
    database: Database, deliveries: Deliveries, receiver: Receiver
) -> None:
    """The dispatcher reads its webhooks only now and then; here it has just done so."""
    await deliveries.create(receiver.url)
    await a_sent_campaign(database, "spring", PEOPLE[:1])
    await deliveries.deliver()
    before = len(receiver.requests)

    rotated = await deliveries.webhooks.rotate_secret("crm", "", timedelta(0))
    await a_sent_campaign(database, "summer", PEOPLE[:1])
    await deliveries.deliver()
    del receiver.requests[:before]
    verify(receiver, rotated.secret)

    await deliveries.webhooks.update("crm", lambda webhook: replace(webhook, enabled=False))
    sent = len(receiver.requests)
    await a_sent_campaign(database, "autumn", PEOPLE[:1])
    await deliveries.deliver()
    assert len(receiver.requests) == sent


async def test_a_held_database_sends_no_events_until_it_is_released(
    database: Database, deliveries: Deliveries, receiver: Receiver
) -> None:
    await deliveries.create(receiver.url)
    await a_sent_campaign(database, "spring", PEOPLE)
    holds = SqlHoldStore(database)
    await holds.begin(start_held=True)
    await deliveries.deliver()
    assert receiver.requests == []

    await holds.release()
    await deliveries.deliver()

    logged_ids = [event.id for event in await Consumer(database).drain()]
    assert [event["id"] for event in receiver.first_arrivals] == logged_ids


@pytest.mark.nightly_on("-1]", "-7]")
@pytest.mark.parametrize("max_batch_events", [1, 7, 500])
async def test_random_failures_lose_nothing_and_keep_the_order(
    database: Database, deliveries: Deliveries, max_batch_events: int
) -> None:
    dice = random.Random(max_batch_events)  # noqa: S311 - no secret

    async def misbehave(request: web.Request) -> web.StreamResponse | None:
        kind = dice.choice(["well"] * 3 + ["500", "429", "date", "reset", "408"])
        match kind:
            case "500" | "408":
                return web.Response(status=int(kind))
            case "429":
                return web.Response(status=429, headers={"Retry-After": "3"})
            case "date":
                moment = deliveries.now + timedelta(seconds=40)
                after = format_datetime(moment, usegmt=True)
                return web.Response(status=429, headers={"Retry-After": after})
            case "reset":
                assert request.transport is not None
                request.transport.abort()
                return web.Response(status=500)
            case _:
                return None

    async with receiving(misbehave) as receiver:
        await deliveries.create(receiver.url, max_batch_events=max_batch_events)
        for id_ in ("spring", "summer"):
            await a_sent_campaign(database, id_, PEOPLE[:40])

        await deliveries.deliver_all()

    events = await Consumer(database).drain()
    for id_ in ("spring", "summer"):
        logged_ids = [event.id for event in events if event.campaign_id == id_]
        arrived = [
            event["id"]
            for event in receiver.first_arrivals
            if event.get("campaign_id", event.get("campaign", {}).get("id")) == id_
        ]
        assert arrived == logged_ids
    assert any(not request.accepted for request in receiver.requests)
    bodies: dict[str, set[bytes]] = {}
    for request in receiver.requests:
        bodies.setdefault(request.id, set()).add(request.body)
    assert all(len(of_one) == 1 for of_one in bodies.values()), "repeated as the same bytes"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "3600"}, 3_600), ({}, 4), ({"Retry-After": "soon"}, 4)],
    ids=["seconds", "none", "nonsense"],
)
async def test_an_attempt_is_not_repeated_before_its_time(
    database: Database,
    deliveries: Deliveries,
    receiver: Receiver,
    headers: dict[str, str],
    seconds: int,
) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503, headers=headers)

    receiver.answer = refuse
    await deliveries.create(receiver.url)
    await a_sent_campaign(database, "spring", PEOPLE[:1])
    await deliveries.deliver()
    assert len(receiver.requests) == 1

    await deliveries.later(seconds=seconds - 0.5)
    await deliveries.deliver()
    assert len(receiver.requests) == 1, "not yet"

    await deliveries.later(seconds=3)
    await deliveries.deliver()
    assert len(receiver.requests) == 2
    assert [r.headers["X-Webhook-Attempt"] for r in receiver.requests] == ["1", "2"]
    first, second = await deliveries.all_attempts()
    assert (first.outcome, first.response_status) == (AttemptOutcome.RETRYING, 503)
    assert first.next_attempt_at is None, "it has been made"
    assert second.next_attempt_at is not None


async def test_after_a_day_of_failures_an_event_is_dead_and_the_next_ones_go_out(
    database: Database, deliveries: Deliveries, receiver: Receiver
) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    receiver.answer = refuse
    began = deliveries.now
    await deliveries.create(receiver.url, event_types=())
    await a_sent_campaign(database, "spring", [])
    while deliveries.now < began + timedelta(hours=24):
        await deliveries.deliver()
        await deliveries.later(minutes=61)
    receiver.answer = Receiver().answer

    await deliveries.deliver_all()

    outcomes = [attempt.outcome for attempt in await deliveries.all_attempts()]
    assert outcomes.count(AttemptOutcome.DEAD) + outcomes.count(AttemptOutcome.DELIVERED) == 3
    assert deliveries.now - began < timedelta(hours=27)
    assert len(receiver.first_arrivals) >= 2


@pytest.mark.parametrize("status", [400, 401, 404, 301, 307, 304])
async def test_what_is_not_worth_repeating_is_dead_and_can_be_redelivered(
    database: Database, deliveries: Deliveries, receiver: Receiver, status: int
) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        # nobody follows it
        return web.Response(status=status, headers={"Location": str(request.url / "elsewhere")})

    receiver.answer = refuse
    await deliveries.create(receiver.url)
    await a_sent_campaign(database, "spring", [])
    await deliveries.deliver()
    dead = await deliveries.all_attempts()
    assert [(a.outcome, a.response_status) for a in dead] == [(AttemptOutcome.DEAD, status)] * 3
    assert len(receiver.requests) == 3
    receiver.answer = Receiver().answer

    again = await deliveries.attempts.redeliver(dead[0].id, deliveries.now)
    await deliveries.deliver()

    assert again.outcome is AttemptOutcome.RETRYING
    (arrived,) = receiver.first_arrivals
    assert arrived["id"] == dead[0].event_id
    assert receiver.requests[-1].headers["X-Webhook-Attempt"] == "2"


async def test_what_is_redelivered_is_what_was_sent_and_nothing_beside_it(
    database: Database, deliveries: Deliveries, receiver: Receiver
) -> None:
    receiver.answer = answering(503, 400)
    await deliveries.create(receiver.url, event_types=("message.new",), max_batch_events=500)
    await started(database, "spring", shards=1)
    runs = SqlRunStore(database)
    # each in a channel of its own, which is another event
    await runs.commit_page(await claimed(runs), a_page(*PEOPLE[:4]), PEOPLE[3])
    await deliveries.deliver_all()
    (dead,) = [a for a in await deliveries.all_attempts() if a.outcome is AttemptOutcome.DEAD]

    await deliveries.attempts.redeliver(dead.id, deliveries.now)
    await deliveries.deliver()

    bodies = {request.body for request in receiver.requests}
    assert len(receiver.requests) == 3
    assert len(bodies) == 1
    assert [event["type"] for event in receiver.first_arrivals] == ["message.new"] * 4


async def test_an_endpoint_that_is_gone_disables_its_webhook_with_an_event(
    database: Database, deliveries: Deliveries, receiver: Receiver
) -> None:
    async def gone(_: web.Request) -> web.StreamResponse:
        return web.Response(status=410)

    async with receiving(gone) as former:
        await deliveries.create(former.url, id="former")
        await deliveries.create(receiver.url, event_types=("webhook.disabled",))
        await a_sent_campaign(database, "spring", PEOPLE[:3])
        await deliveries.deliver()
        await a_sent_campaign(database, "summer", PEOPLE[:3])
        await deliveries.deliver()

        assert len(former.requests) == 1
    disabled = await deliveries.store.get("former")
    assert (disabled.enabled, disabled.disabled_reason) == (False, "the endpoint answered 410")
    (event,) = receiver.first_arrivals
    assert (event["type"], event["webhook"]["id"]) == ("webhook.disabled", "former")
    assert SECRET not in str(event)


async def test_an_endpoint_that_does_not_answer_is_given_up_at_its_time_out(
    database: Database, deliveries: Deliveries
) -> None:
    forever = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse | None:
        await forever.wait()
        return None

    async with receiving(hang) as receiver:
        await deliveries.create(receiver.url, timeout=timedelta(milliseconds=50))
        await a_sent_campaign(database, "spring", [])
        await deliveries.deliver()
        forever.set()

    (attempt,) = await deliveries.all_attempts()
    assert (attempt.outcome, attempt.response_status) == (AttemptOutcome.RETRYING, 0)
    assert attempt.error == "no answer within 0.05 s"


@pytest.mark.nightly
async def test_one_hanging_endpoint_delays_no_other(
    database: Database, deliveries: Deliveries, receiver: Receiver
) -> None:
    forever = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse | None:
        await forever.wait()
        return None

    async with receiving(hang) as hanging:
        await deliveries.create(hanging.url, id="hanging", timeout=timedelta(seconds=30))
        for number in range(20):
            await deliveries.create(f"{receiver.url}/{number}", id=f"healthy-{number}")
        for number in range(6):
            await a_sent_campaign(database, f"c{number}", PEOPLE[:2])
        stop = asyncio.Event()
        running = asyncio.create_task(deliveries.dispatcher.run(stop))
        # all that the healthy ones get, while the other one still hangs
        await receiver.until(lambda: len(receiver.requests) == 20 * 6 * 5)

        assert not forever.is_set()
        assert hanging.requests == []
        stop.set()
        forever.set()
        await running
        # no more at once than its limit
        assert 1 <= len(hanging.requests) <= 4


async def test_a_change_of_the_types_holds_for_everything_that_is_sent_after_it_has_returned(
    database: Database, deliveries: Deliveries
) -> None:
    """The dispatcher has read events of the other types ahead by then."""
    sending, changed = asyncio.Event(), asyncio.Event()

    async def wait_for_the_change(_: web.Request) -> web.StreamResponse | None:
        sending.set()
        await changed.wait()
        return None

    await a_sent_campaign(database, "spring", PEOPLE)
    async with receiving(wait_for_the_change) as receiver:
        await deliveries.create(receiver.url, timeout=timedelta(seconds=30))
        await a_sent_campaign(database, "summer", PEOPLE)
        delivering = asyncio.create_task(deliveries.deliver())
        await sending.wait()
        await deliveries.webhooks.update(
            "crm", lambda webhook: replace(webhook, event_types=(EventType.CAMPAIGN_COMPLETED,))
        )
        changed.set()
        await delivering

    (in_progress, *later) = receiver.first_arrivals
    assert in_progress["type"] == "campaign.updated"
    assert [event["type"] for event in later] == ["campaign.completed"]


@pytest.mark.nightly
async def test_two_dispatchers_share_the_work_and_send_nothing_twice(
    database: Database, deliveries: Deliveries, receiver: Receiver
) -> None:
    await deliveries.create(receiver.url)
    for number in range(6):
        await a_sent_campaign(database, f"c{number}", PEOPLE[:20])

    other = deliveries.another_dispatcher()
    await asyncio.gather(deliveries.deliver(), other.run_once())
    await deliveries.deliver()

    ids = [request.id for request in receiver.requests]
    assert len(ids) == len(set(ids)) == 6 * 23


async def test_a_dispatcher_that_died_is_replaced_when_its_lease_is_over(
    database: Database, deliveries: Deliveries, receiver: Receiver
) -> None:
    begun: list[tuple[str, bytes]] = []
    reached = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse | None:
        begun.append((request.headers["webhook-id"], await request.read()))
        reached.set()
        await asyncio.Event().wait()
        return None

    receiver.answer = hang
    await deliveries.create(receiver.url, max_batch_events=500)
    await started(database, "spring", shards=1)
    dying = asyncio.create_task(deliveries.deliver())
    await reached.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    receiver.answer = Receiver().answer
    # more of the campaign has happened since: the batch that was begun stays as it was
    await SqlTransitionStore(database, shards=1).stop("spring", "enough", MOMENT)

    await deliveries.deliver()
    assert receiver.requests == [], "its lease is not over"
    await deliveries.later(seconds=11)
    await deliveries.another_dispatcher().run_once()

    logged_ids = [event.id for event in await Consumer(database).drain()]
    assert [event["id"] for event in receiver.first_arrivals] == logged_ids
    assert len(logged_ids) == 3
    assert begun == [(receiver.requests[0].id, receiver.requests[0].body)]


async def test_a_kept_connection_that_has_died_costs_no_attempt(
    database: Database, deliveries: Deliveries, receiver: Receiver
) -> None:
    used: set[object] = set()

    async def abort_the_second(request: web.Request) -> web.StreamResponse | None:
        assert request.transport is not None
        if request.transport in used:
            request.transport.abort()
            return web.Response(status=500)
        used.add(request.transport)
        return None

    receiver.answer = abort_the_second
    await deliveries.create(receiver.url)
    await a_sent_campaign(database, "spring", PEOPLE[:10])

    await deliveries.deliver()

    attempts = await deliveries.all_attempts()
    logged_ids = await Consumer(database).drain()
    assert {event["id"] for event in receiver.first_arrivals} == {event.id for event in logged_ids}
    assert {(a.outcome, a.attempt) for a in attempts} == {(AttemptOutcome.DELIVERED, 1)}
    assert any(not request.accepted for request in receiver.requests), "connections were kept"
