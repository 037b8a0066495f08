"""Reads what the gauge `herald_unaccounted_targets` shows, all through a run."""

from campaign_service.storage.measures import SqlMeasures
from chat_store.database.engine import open_database
from chat_store.errors import StoreUnavailableError
from tests.faults.cluster import Cluster
from tests.faults.scenario import CAMPAIGN_ID

_PAUSE_SECONDS = 0.2


async def assert_all_are_accounted_for(cluster: Cluster) -> None:
    """Raises as soon as the campaign's counters differ from its rows."""
    database = open_database(cluster.database_url)
    measures = SqlMeasures(database)
    try:
        while not await cluster.over_within(_PAUSE_SECONDS):
            try:
                account = await measures.account(CAMPAIGN_ID)
            except StoreUnavailableError:
                continue
            cluster.fired["accounts read"] += 1
            if account is not None and account.unaccounted_targets:
                raise AssertionError(f"{account.unaccounted_targets} unaccounted for: {account}")
    finally:
        await database.close()
