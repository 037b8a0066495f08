"""Targets that no counter has, or that no row has: there are none, and one would be seen."""

import pytest
from sqlalchemy import delete, update

from campaign_service.campaigns.accounts import Account
from campaign_service.campaigns.model import Status
from campaign_service.campaigns.outcomes import NotSent, Outcome, Reason
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.tables import campaign_outcomes, campaign_shards, campaigns
from chat_store.database.engine import Database
from chat_store.sql.tables import messages
from tests.campaign.builders import MOMENT
from tests.campaign.test_runs import a_page, claimed, started
from tests.metrics.measuring import Metrics
from tests.metrics.series import by_label

pytestmark = pytest.mark.nightly_on("postgresql")


async def half_sent(database: Database) -> SqlRunStore:
    """Five targets: two sent, one skipped, one failed, one to come."""
    await started(database)
    async with database.transaction() as connection:
        await connection.execute(update(campaigns).values(targets_total=5))
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    refused = [
        NotSent("cleo", Reason.USER_DELETED),
        NotSent("dora", Reason.TEMPLATE_ERROR),
    ]
    await runs.commit_page(lease, a_page("ann", "bob", not_sent=refused), "dora")
    return runs


async def test_every_target_of_a_campaign_under_way_is_sent_skipped_failed_or_pending(
    database: Database,
) -> None:
    await half_sent(database)

    series = await Metrics(database).read()

    shown = by_label(series, "herald_campaign_targets", "outcome", campaign_id="spring")
    assert shown == {"sent": 2, "skipped": 1, "failed": 1, "pending": 1}


async def test_nothing_is_unaccounted_for_from_the_start_to_the_end(database: Database) -> None:
    metrics = Metrics(database)
    await started(database)
    found = [await metrics.unaccounted()]
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    found.append(await metrics.unaccounted())
    await runs.commit_page(lease, a_page("ann", "bob"), "bob")
    found.append(await metrics.unaccounted())
    await runs.finish_pass(lease, MOMENT)
    found.append(await metrics.unaccounted())

    assert found == [0, 0, 0, 0]


DAMAGES = {
    "a message that is lost": delete(messages).where(messages.c.target_id == "ann"),
    "a message that no counter has": update(campaign_shards).values(messages_sent=1),
    "an outcome that is lost": delete(campaign_outcomes).where(
        campaign_outcomes.c.target_id == "cleo"
    ),
    "an outcome that no row has": update(campaign_shards).values(targets_failed=2),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_target_that_counters_or_rows_lack_is_shown(
    database: Database, damage: str
) -> None:
    metrics = Metrics(database)
    await half_sent(database)
    before = await metrics.unaccounted()
    async with database.transaction() as connection:
        await connection.execute(DAMAGES[damage])
    metrics.worker.recount_at_once()

    assert (before, await metrics.unaccounted()) == (0, 1)


async def test_it_stays_shown_after_the_campaign_has_ended(database: Database) -> None:
    metrics = Metrics(database)
    await half_sent(database)
    await metrics.read()
    async with database.transaction() as connection:
        await connection.execute(DAMAGES["a message that is lost"])
        await connection.execute(update(campaigns).values(status=Status.STOPPED))
    shown = []
    for _ in range(3):
        metrics.worker.recount_at_once()
        shown.append(await metrics.unaccounted())

    assert shown == [1, 1, 1]


@pytest.mark.parametrize(
    ("status", "total", "unaccounted"),
    [
        (Status.IN_PROGRESS, 9, 0),
        (Status.STOPPED, 9, 0),
        (Status.COMPLETED, 3, 0),
        (Status.COMPLETED, 4, 1),
        (Status.COMPLETED, 1, 2),
    ],
)
def test_a_completed_campaign_has_as_many_targets_as_outcomes(
    status: Status, total: int, unaccounted: int
) -> None:
    handled = {Outcome.SENT: 1, Outcome.SKIPPED: 1, Outcome.FAILED: 1}

    account = Account("spring", status, total, handled, handled)

    assert account.unaccounted_targets == unaccounted
