"""An endpoint that fails in many ways, and one that hangs among twenty that answer."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from math import ceil
from time import monotonic

import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier

from campaign_service.campaigns.webhooks import AttemptOutcome
from campaign_service.events.signatures import plain_signature
from chat_store.database.engine import Database
from tests.events.dispatching import SECRET, Deliveries, a_sent_campaign
from tests.events.reading import Consumer
from tests.harness.webhook_receiver import Receiver, receiving

PEOPLE = [f"p{number:04}" for number in range(5_000)]
MOODS = ["500", "429 seconds", "429 date", "408", "hang", "reset", "redirect", "slow", "die"]
TIMEOUT = timedelta(milliseconds=200)
# refused while it is dead
DEAD_REQUESTS = 7

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]


class Moody:
    """In another mood at every fourth request, on average; each mood comes at least once."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._dice = random.Random(19)  # noqa: S311 - no secret
        self._to_come = list(MOODS)
        self._dead = 0
        self.had: set[str] = set()

    async def answer(self, request: web.Request) -> web.StreamResponse | None:
        mood = "well"
        if self._dead:
            self._dead -= 1
            mood = "reset"
        elif self._dice.random() < 0.25:
            mood = self._to_come.pop() if self._to_come else self._dice.choice(MOODS)
        self.had.add(mood)
        match mood:
            case "500" | "408":
                return web.Response(status=int(mood))
            case "429 seconds":
                return web.Response(status=429, headers={"Retry-After": "3"})
            case "429 date":
                moment = self._deliveries.now + timedelta(seconds=40)
                after = format_datetime(moment, usegmt=True)
                return web.Response(status=429, headers={"Retry-After": after})
            case "redirect":
                return web.Response(status=307, headers={"Location": str(request.url)})
            case "hang":
                await asyncio.sleep(10 * TIMEOUT.total_seconds())
                return web.Response(status=500)
            case "slow":
                await asyncio.sleep(TIMEOUT.total_seconds() / 10)
                return None
            case "reset" | "die":
                self._dead += DEAD_REQUESTS if mood == "die" else 0
                assert request.transport is not None
                request.transport.abort()
                return web.Response(status=500)
            case _:
                return None


def assert_signed(receiver: Receiver) -> None:
    """By the library of Standard Webhooks, whose check would want the time to be now."""
    for request in receiver.requests:
        headers = request.headers
        moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        signature = Verifier(SECRET).sign(request.id, moment, request.body.decode())
        assert headers["webhook-signature"] == signature
        assert headers["X-Signature"] == plain_signature(SECRET, request.body)


async def test_an_endpoint_of_many_moods_gets_every_event_of_a_large_campaign_in_order_and_signed(
    database: Database,
) -> None:
    deliveries = Deliveries(database, datetime.now(UTC))
    moody = Moody(deliveries)
    async with receiving(moody.answer) as receiver:
        await deliveries.create(receiver.url, max_batch_events=50, timeout=TIMEOUT)
        await a_sent_campaign(database, "spring", PEOPLE)
        await deliveries.deliver()
        while (await deliveries.store.backlogs([await deliveries.store.get("crm")]))["crm"].events:
            await deliveries.later(minutes=10)
            await deliveries.deliver()
        # what was redirected is dead, and sent again on request
        attempts = await deliveries.all_attempts()
        dead = [attempt for attempt in attempts if attempt.outcome is AttemptOutcome.DEAD]
        in_time = [event["id"] for event in receiver.first_arrivals]
        receiver.answer = Receiver().answer
        for attempt in dead:
            await deliveries.attempts.redeliver(attempt.id, deliveries.now)
        await deliveries.deliver()

    logged_ids = [event.id for event in await Consumer(database, at_once=1_000).drain()]
    assert moody.had == {"well", *MOODS}
    assert dead
    assert {attempt.response_status for attempt in dead} == {307}
    assert in_time == [id_ for id_ in logged_ids if id_ in set(in_time)], "in order"
    assert len(logged_ids) - len(in_time) == sum(attempt.events for attempt in dead)
    assert {event["id"] for event in receiver.first_arrivals} == set(logged_ids)
    assert_signed(receiver)


@pytest.mark.alone
async def test_an_endpoint_that_hangs_delays_twenty_others_by_less_than_a_second(
    database: Database,
) -> None:
    forever = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse | None:
        held.append(len(held) - len(given_up))
        try:
            await forever.wait()
        finally:
            given_up.append(None)
        return None

    async def note(_: web.Request) -> web.StreamResponse | None:
        arrivals.append(monotonic())
        return None

    async def delays(campaign_id: str) -> list[float]:
        """The seconds from before the commit of five events until each has arrived everywhere."""
        arrivals.clear()
        began = monotonic()
        await a_sent_campaign(database, campaign_id, PEOPLE[:2])
        # an event may come twice
        await healthy.until(lambda: len(arrivals) >= 20 * 5)
        return [arrival - began for arrival in arrivals]

    arrivals: list[float] = []
    # for each request to the one that hangs, how many there were before; those that are over
    held: list[int] = []
    given_up: list[None] = []
    deliveries = Deliveries(database, datetime.now(UTC))
    async with receiving(hang) as hanging, receiving(note) as healthy:
        for number in range(20):
            await deliveries.create(f"{healthy.url}/{number}", id=f"healthy-{number}")
        stop = asyncio.Event()
        running = asyncio.create_task(deliveries.dispatcher.run(stop))
        alone = [each for number in range(4) for each in await delays(f"a{number}")]
        await deliveries.create(hanging.url, id="hanging", timeout=timedelta(seconds=30))
        beside = [each for number in range(4) for each in await delays(f"b{number}")]
        stop.set()
        forever.set()
        await running

    assert max(held) < 4, "it hung, within its own limit"
    # a busy machine delays them without it, too
    assert p99(beside) < max(1.0, 2 * p99(alone)), (p99(alone), p99(beside))


def p99(delays: Sequence[float]) -> float:
    return sorted(delays)[ceil(0.99 * len(delays)) - 1]
