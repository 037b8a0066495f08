"""Series stay few, however many campaigns there are and were."""

import pytest
from sqlalchemy import insert, update

from campaign_service.campaigns.model import Status
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.tables import campaigns
from chat_store.database.engine import Database
from herald_rpc.metrics.calls import CallMetrics
from tests.campaign.builders import MOMENT, a_spec
from tests.campaign.test_runs import started
from tests.metrics.measuring import Metrics
from tests.metrics.series import by_label

AT_ONCE = 500
ROUNDS = 20
MOST_SERIES = 5_000
SERVICES = [
    "herald.campaign.v1.CampaignService",
    "herald.event.v1.EventService",
    "herald.access.v1.AccessService",
]


@pytest.mark.nightly
async def test_ten_thousand_campaigns_leave_few_series_and_none_of_their_own(
    database: Database,
) -> None:
    """Five hundred at a time are in progress, and then completed."""
    await SqlCampaignStore(database).create("template", a_spec(), MOMENT, to_channels=False)
    async with database.transaction() as connection:
        found = await connection.execute(campaigns.select())
        template = found.one()._asdict()
    metrics = Metrics(database)
    CallMetrics(metrics.registry, SERVICES)
    numbers, labelled = [], []
    for turn in range(ROUNDS):
        ids = [f"c{turn:02}-{number:03}" for number in range(AT_ONCE)]
        under_way = {**template, "status": Status.IN_PROGRESS, "started_at": MOMENT}
        async with database.transaction() as connection:
            await connection.execute(insert(campaigns), [{**under_way, "id": id_} for id_ in ids])
        series = await metrics.read()
        numbers.append(len(series))
        labelled.append(len(set(by_label(series, "herald_campaign_targets", "campaign_id"))))
        async with database.transaction() as connection:
            await connection.execute(update(campaigns).values(status=Status.COMPLETED))

    left = await metrics.read()

    assert max(numbers) < MOST_SERIES
    assert min(labelled) == max(labelled) == 100
    assert [name for (name, labels) in left if "campaign_id" in dict(labels)] == []


async def test_the_label_of_a_campaign_goes_when_it_ends(database: Database) -> None:
    metrics = Metrics(database)
    for id_ in ("spring", "summer"):
        await started(database, id_)
    both = by_label(await metrics.read(), "herald_campaign_targets", "campaign_id")
    async with database.transaction() as connection:
        ended = update(campaigns).where(campaigns.c.id == "spring")
        await connection.execute(ended.values(status=Status.STOPPED))
    one = by_label(await metrics.read(), "herald_campaign_targets", "campaign_id")

    assert (set(both), set(one)) == ({"spring", "summer"}, {"summer"})
