"""What senders have done is counted when it is committed."""

import pytest
from prometheus_client import CollectorRegistry

from campaign_service.campaigns.errors import RunEndedError
from campaign_service.campaigns.outcomes import NotSent, Reason
from campaign_service.metrics.sending import MeasuredRuns, SenderMetrics
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database
from tests.campaign.builders import MOMENT
from tests.campaign.test_runs import LATER, UNTIL, a_page, claimed, started
from tests.metrics.series import by_label, series_of, value


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def runs(registry: CollectorRegistry, database: Database) -> MeasuredRuns:
    return MeasuredRuns(SenderMetrics(registry), database)


async def test_a_page_is_counted_with_its_targets_by_outcome(
    database: Database, runs: MeasuredRuns, registry: CollectorRegistry
) -> None:
    await started(database)
    lease = await claimed(runs)
    await runs.claim("two", MOMENT, UNTIL)
    refused = [NotSent("cleo", Reason.USER_DELETED), NotSent("dora", Reason.TEMPLATE_ERROR)]
    await runs.commit_page(lease, a_page("ann", "bob", "eve", not_sent=refused), "eve")

    series = series_of(registry)
    outcomes = by_label(series, "herald_targets_total", "outcome")
    assert outcomes == {"sent": 3, "skipped": 1, "failed": 1}
    assert value(series, "herald_pages_total") == 1
    assert value(series, "herald_messages_total") == 3
    assert value(series, "herald_channels_created_total") == 3
    assert value(series, "herald_commit_seconds_count") == 1
    assert value(series, "herald_claim_seconds_count") == 1, "one claim found nothing"
    assert value(series, "herald_lease_losses_total") == 0


async def test_a_page_that_is_refused_is_not_counted_and_a_lost_lease_is(
    database: Database, runs: MeasuredRuns, registry: CollectorRegistry
) -> None:
    await started(database)
    slept = await claimed(runs)
    assert await runs.claim("two", LATER, LATER) is not None

    for refused in (runs.commit_page(slept, a_page("ann"), "ann"), runs.renew(slept, LATER)):
        with pytest.raises(RunEndedError):
            await refused

    series = series_of(registry)
    assert value(series, "herald_lease_losses_total") == 2
    assert value(series, "herald_pages_total") == 0
    assert value(series, "herald_commit_seconds_count") == 0


async def test_a_lease_of_a_campaign_that_was_stopped_is_not_lost(
    database: Database, runs: MeasuredRuns, registry: CollectorRegistry
) -> None:
    await started(database)
    lease = await claimed(runs)
    await SqlTransitionStore(database, shards=1).stop("spring", "enough", MOMENT)

    with pytest.raises(RunEndedError):
        await runs.commit_page(lease, a_page("ann"), "ann")

    assert value(series_of(registry), "herald_lease_losses_total") == 0
