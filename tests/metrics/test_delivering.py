"""Events by sink: how far each is behind, and what became of those that were sent."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from campaign_service.campaigns.events import Offset
from campaign_service.campaigns.pushes import PushOutcome, PushReason, PushResult
from campaign_service.campaigns.webhooks import LaneLostError
from campaign_service.events.dispatcher import Dispatcher
from campaign_service.events.reader import Selection
from campaign_service.events.tail import EventTail
from campaign_service.metrics.delivering import EventMetrics, MeasuredLanes, MeasuredPushes
from campaign_service.metrics.lags import LagMetrics, Sink
from campaign_service.storage.measures import SqlMeasures
from chat_store.database.engine import Database
from tests.campaign.builders import MOMENT
from tests.events.dispatching import Deliveries, a_sent_campaign
from tests.events.reading import a_reader
from tests.harness.webhook_receiver import Receiver, receiving
from tests.metrics.series import by_label, series_of, value

pytestmark = pytest.mark.nightly_on("postgresql")

PEOPLE = ["ann", "bob", "cleo"]
# of their campaign: its creation, its start, a page, and its completion
ENTRIES = 4


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@dataclass
class Delivering:
    database: Database
    registry: CollectorRegistry

    def __post_init__(self) -> None:
        self.deliveries = Deliveries(self.database, datetime.now(UTC))
        self.lanes = MeasuredLanes(EventMetrics(self.registry), self.database)
        self.deliveries.dispatcher = Dispatcher(
            a_reader(self.database),
            self.deliveries.store,
            self.lanes,
            self.deliveries.policy,
            now=self.deliveries.clock,
        )

    def outcomes(self) -> dict[str, float]:
        return by_label(series_of(self.registry), "herald_events_total", "outcome", sink="webhook")


@pytest.fixture
def delivering(database: Database) -> Delivering:
    return Delivering(database, CollectorRegistry())


async def answering(receiver: Receiver, status: int) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    receiver.answer = answer


async def test_events_that_arrive_are_counted_as_delivered(
    delivering: Delivering, receiver: Receiver
) -> None:
    await delivering.deliveries.create(receiver.url, max_batch_events=2)
    await a_sent_campaign(delivering.database, "spring", PEOPLE)

    await delivering.deliveries.deliver()

    arrived = sum(len(request.events) for request in receiver.requests)
    assert delivering.outcomes() == {"delivered": arrived, "retrying": 0, "dead": 0}


async def test_events_that_are_refused_for_good_are_dead_and_others_are_tried_again(
    delivering: Delivering, receiver: Receiver
) -> None:
    await delivering.deliveries.create(receiver.url)
    await a_sent_campaign(delivering.database, "spring", PEOPLE)
    await answering(receiver, 503)
    await delivering.deliveries.deliver()
    once_refused = delivering.outcomes()
    await answering(receiver, 422)
    await delivering.deliveries.deliver_all()

    assert once_refused == {"delivered": 0, "retrying": 1, "dead": 0}
    told = len(receiver.requests) - 1
    assert delivering.outcomes() == {"delivered": 0, "retrying": 1, "dead": told}


async def test_an_endpoint_that_is_gone_is_one_dead_event(
    delivering: Delivering, receiver: Receiver
) -> None:
    await delivering.deliveries.create(receiver.url)
    await a_sent_campaign(delivering.database, "spring", PEOPLE)
    await answering(receiver, 410)

    await delivering.deliveries.deliver()

    assert delivering.outcomes() == {"delivered": 0, "retrying": 0, "dead": 1}


async def test_a_lane_that_another_server_has_claimed_is_counted_as_lost(
    delivering: Delivering, receiver: Receiver
) -> None:
    await delivering.deliveries.create(receiver.url)
    await a_sent_campaign(delivering.database, "spring", PEOPLE)
    await delivering.deliveries.dispatcher._distribute()
    claim = {"most": 1, "most_of_webhook": 1}
    (slept,) = await delivering.lanes.claim("one", MOMENT, MOMENT, **claim)
    assert await delivering.lanes.claim("two", datetime.now(UTC), datetime.now(UTC), **claim)

    with pytest.raises(LaneLostError):
        await delivering.lanes.advance(slept, slept.end, [])

    assert value(series_of(delivering.registry), "herald_lane_losses_total") == 1


async def test_pushes_are_counted_by_their_outcome(database: Database) -> None:
    registry = CollectorRegistry()
    pushes = MeasuredPushes(EventMetrics(registry), database)
    sent = PushResult(PushOutcome.SENT)
    dead = PushResult(PushOutcome.FAILED, PushReason.UNREGISTERED)

    await pushes.count({("spring", sent): 5, ("spring", dead): 2})

    counted = by_label(series_of(registry), "herald_events_total", "outcome", sink="push")
    assert counted == {"delivered": 5, "dead": 2, "skipped": 0}


@dataclass
class StuckSink:
    reached: Offset | None


async def test_the_lag_of_a_webhook_grows_until_its_events_have_arrived(
    delivering: Delivering, receiver: Receiver
) -> None:
    lags = Lags(delivering.database)
    before = await lags.of("webhook")
    await delivering.deliveries.create(receiver.url)
    await a_sent_campaign(delivering.database, "spring", PEOPLE)
    await delivering.deliveries.dispatcher._distribute()
    lags.now = delivering.deliveries.now
    waiting = await lags.of("webhook")
    await delivering.deliveries.deliver()

    assert [before, await lags.of("webhook")] == [(0, 0)] * 2
    assert waiting == (ENTRIES, (lags.now - MOMENT).total_seconds())


async def test_the_lag_of_a_sink_of_this_process_is_from_the_offset_that_it_has_reached(
    database: Database,
) -> None:
    stuck = StuckSink(None)
    lags = Lags(database, stuck)
    await a_sent_campaign(database, "spring", PEOPLE)
    end = (await a_reader(database).ends()).next
    found = []
    for offset in (None, Offset(1), Offset(2, 1), end):
        stuck.reached = offset
        found.append((await lags.of("own"))[0])

    assert found == [0, ENTRIES, ENTRIES - 1, 0]


async def test_a_stream_whose_client_takes_nothing_is_the_lag_of_streams(
    database: Database,
) -> None:
    await a_sent_campaign(database, "spring", PEOPLE)
    tail = EventTail(a_reader(database))
    lags = Lags(database, tail)
    none = await lags.of("own")
    stream = tail.follow(None, Selection())
    await anext(stream)
    one_page = await lags.of("own")
    await stream.aclose()

    assert [none, await lags.of("own")] == [(0, 0)] * 2
    assert one_page[0] == ENTRIES


class Lags:
    """Of the webhooks, and of a sink of this process."""

    def __init__(self, database: Database, sink: Sink | None = None) -> None:
        self.now = MOMENT
        self._registry = CollectorRegistry()
        self._worker = LagMetrics(
            self._registry,
            SqlMeasures(database),
            {"own": sink} if sink else {},
            of_webhooks=True,
            now=lambda: self.now,
        )

    async def of(self, sink: str) -> tuple[float | None, float | None]:
        """The entries and the seconds."""
        await self._worker.run_once()
        series = series_of(self._registry)
        entries = value(series, "herald_event_lag_entries", sink=sink)
        return entries, value(series, "herald_event_lag_seconds", sink=sink)
