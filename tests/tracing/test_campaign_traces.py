"""The trace of a campaign is that of the call that has started it, in whatever process."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from campaign_service.campaigns.model import Times
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.traces import trace_of
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database
from herald_rpc import tracing
from tests.campaign.builders import MOMENT, a_spec
from tests.campaign.test_runs import a_page, claimed, started

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HOUR = timedelta(hours=1)


class NoTracer:
    """Traces are on, and nothing here begins a span."""

    def begin(self, *_: object) -> tracing.Span:
        raise NotImplementedError

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def traces_are_on() -> Iterator[None]:
    tracing.use(NoTracer())
    yield
    tracing.follow("")
    tracing.use(None)


async def test_the_trace_of_a_start_is_known_until_after_the_completion(database: Database) -> None:
    tracing.follow(TRACEPARENT)
    await started(database)
    tracing.follow("")
    while_it_runs = await trace_of(database, "spring")
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    await runs.commit_page(lease, a_page("ann", "bob"), "bob")
    await runs.finish_pass(lease, MOMENT)

    assert [while_it_runs, await trace_of(database, "spring")] == [TRACEPARENT] * 2


async def test_a_campaign_that_the_clock_starts_is_of_the_call_that_scheduled_it(
    database: Database,
) -> None:
    await SqlCampaignStore(database).create("spring", a_spec(), MOMENT, to_channels=False)
    transitions = SqlTransitionStore(database, shards=1)
    tracing.follow(TRACEPARENT)
    await transitions.schedule("spring", Times(scheduled_for=MOMENT + HOUR), MOMENT)
    tracing.follow("")
    await transitions.start("spring", 2, MOMENT + HOUR)

    assert await trace_of(database, "spring") == TRACEPARENT


async def test_a_campaign_that_was_started_without_a_trace_has_none(database: Database) -> None:
    await started(database)

    assert [await trace_of(database, id_) for id_ in ("spring", "unknown")] == ["", ""]


async def test_nothing_is_read_while_traces_are_off(database: Database) -> None:
    tracing.follow(TRACEPARENT)
    await started(database)
    tracing.use(None)

    assert await trace_of(database, "spring") == ""
