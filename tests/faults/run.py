"""One run: a scenario played from nothing to its end, and the recount after it."""

import asyncio
import random
import sqlite3
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy.engine import make_url

from herald.campaign.v1 import campaign_pb2
from tests.faults.campaign_driver import CampaignDriver
from tests.faults.client import connected
from tests.faults.cluster import Cluster, RestartablePostgres, running
from tests.faults.fault_kinds import FAULTS
from tests.faults.scenario import CAMPAIGN_ID, Scenario
from tests.faults.server_process import UnexpectedEndError
from tests.faults.unaccounted import assert_all_are_accounted_for
from tests.harness import forkserver, reconciliation

_MOST_SECONDS_WITHOUT_MESSAGE = 60.0
# a page is asked about again when it was read 0.5 s ago; the rest is for a busy machine
_LEAVING = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`fired` counts how often each fault really happened. `problem` is empty if all is right."""

    scenario: Scenario
    targets: int
    seconds: float
    fired: Counter[str]
    problem: str = ""

    @property
    def missed(self) -> list[str]:
        """The faults that did not happen."""
        return [name for name in self.scenario.faults if not self.fired[name]]

    def __str__(self) -> str:
        fired = " ".join(
            f"{name} x{times}"
            for name, times in sorted(self.fired.items())
            if times and " " not in name
        )
        verdict = "BROKEN" if self.problem else "ok"
        missed = f" (not: {' '.join(self.missed)})" if self.missed else ""
        return (
            f"seed {self.scenario.seed:<6} {self.scenario}  {self.targets:>7,} targets "
            f"{self.seconds:>5.1f} s  {fired}{missed}  {verdict}"
        )


async def play(
    scenario: Scenario, database_url: str, folder: Path, postgres: RestartablePostgres | None
) -> Outcome:
    """On a database with the users of the suite in it, which nobody else uses.

    Never raises for what the servers do: that is in the outcome.
    """
    began = time.monotonic()
    fired: Counter[str] = Counter()
    handled = 0
    problem = ""
    used = postgres if scenario.dialect == "postgresql" else None
    cluster = None
    try:
        async with running(scenario, database_url, folder, used) as cluster:
            driver, campaign = await _drive(cluster)
            await cluster.stop()
        handled = await _recounted(cluster, driver, campaign, folder)
    except Exception:  # noqa: BLE001 - whatever it is, it is what came of the run
        problem = traceback.format_exc()
        problem += "" if cluster is None else f"\n{cluster.tails()}"
    if cluster is not None:
        fired = _fired(cluster)
    return Outcome(scenario, handled, time.monotonic() - began, fired, problem)


async def _drive(cluster: Cluster) -> tuple[CampaignDriver, campaign_pb2.Campaign]:
    scenario = cluster.scenario
    addresses = [[each.address for each in some] for some in (cluster.segments, cluster.campaigns)]
    async with connected(*addresses) as client:
        # another word would change what each seed draws
        driver = CampaignDriver(cluster, client, _choices(scenario, "story"))
        await driver.prepare()
        async with asyncio.TaskGroup() as group:
            for name in scenario.faults:
                if name in FAULTS:
                    group.create_task(_happening(name, cluster))
            if "stop-and-go" in scenario.faults:
                group.create_task(_after_start(cluster, driver.stop_and_go))
            for name, part in {
                "grow": driver.grow,
                "shrink": driver.shrink,
                "change-filter": driver.change_filter,
                "delete-segment": driver.delete_segment,
            }.items():
                if name in scenario.faults:
                    group.create_task(_after_start(cluster, part))
            await cluster.until_senders_are_up()
            group.create_task(assert_all_are_accounted_for(cluster))
            await driver.start()
            campaign = await driver.completed(_MOST_SECONDS_WITHOUT_MESSAGE)
            cluster.over.set()
        return driver, await driver.get() if driver.perhaps else campaign


async def _happening(name: str, cluster: Cluster) -> None:
    await cluster.started.wait()
    await FAULTS[name](cluster, _choices(cluster.scenario, name))


async def _after_start(cluster: Cluster, part: Callable[[], Awaitable[None]]) -> None:
    await cluster.started.wait()
    await part()


async def _recounted(
    cluster: Cluster, driver: CampaignDriver, campaign: campaign_pb2.Campaign, folder: Path
) -> int:
    """How many targets have been handled. Raises for whatever is not as it must be."""
    url = cluster.database_url
    found = reconciliation.outcomes(url, CAMPAIGN_ID)
    is_completed = campaign.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETED
    may_have_none = driver.perhaps | driver.left.keys() if is_completed else driver.outcomes.keys()
    astray = {
        target: (driver.outcomes.get(target), found.get(target))
        for target in found.keys() | driver.outcomes.keys()
        if found.get(target) != driver.outcomes.get(target)
        and not (target in may_have_none and found.get(target) is None)
        and target not in driver.perhaps
    }
    assert not astray, f"expected and found, of {len(astray)}: {dict(sorted(astray.items())[:10])}"
    sent_at = reconciliation.messages_sent_at(url, CAMPAIGN_ID) if driver.left else {}
    too_late = {
        target: (left_at, sent_at[target])
        for target, left_at in driver.left.items()
        if target in sent_at and sent_at[target] > left_at + _LEAVING
    }
    assert not too_late, (
        f"sent to {len(too_late)} who had left: {dict(list(too_late.items())[:10])}"
    )
    account = reconciliation.recount(url, CAMPAIGN_ID)
    reconciliation.assert_consistent(account)
    stats = campaign.stats
    counted = (stats.messages_sent, stats.targets_skipped, stats.targets_failed)
    assert counted == (account.messages, account.skipped, account.failed), counted
    if is_completed:
        reconciliation.assert_everyone_has_one_outcome(url, CAMPAIGN_ID, len(found))
        assert stats.targets_total == account.targets_total, stats
        assert reconciliation.lease_owners(url, CAMPAIGN_ID) == []
    if cluster.postgres is None:
        with closing(sqlite3.connect(str(make_url(url).database))) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    await _verified(url, folder)
    for replica in cluster.replicas:
        if replica.errors:
            raise UnexpectedEndError("\n".join(replica.errors))
    return len(found)


async def _verified(database_url: str, folder: Path) -> None:
    """The operator's own recount says the same."""
    log = folder / "verify.log"
    settings = {"HERALD_DATABASE_URL": database_url}
    process = forkserver.start("campaign_service", settings, log, "verify", CAMPAIGN_ID)
    await asyncio.to_thread(process.join)
    assert process.exitcode == 0, log.read_text()


def _fired(cluster: Cluster) -> Counter[str]:
    fired = cluster.fired.copy()
    for replica in cluster.replicas:
        fired.update(replica.fired)
        fired["late-refused"] += replica.said("run ended by another")
    if "start-without-postgres" in cluster.scenario.faults:
        waited = sum(replica.said("waiting to start") for replica in cluster.replicas)
        fired["start-without-postgres"] = waited
    return fired


def _choices(scenario: Scenario, what: str) -> random.Random:
    return random.Random(f"{scenario.seed} {what}")  # noqa: S311 - nobody's secret
