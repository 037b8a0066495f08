"""Each kind of fault once, with fixed seeds; `make faults` plays hundreds of others.

Behind each run stands the recount of `tests.faults.run`: everyone has exactly the outcome that
the contract gives them, once, and every counter says so.
"""

from collections.abc import Sequence

import pytest

from chat_store.database.crash_points import CrashPoint, Point
from tests.faults.audiences import USERS
from tests.faults.fault_runner import FaultRunner
from tests.faults.run import Outcome
from tests.faults.scenario import Dialect, chosen, crowded

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]


@pytest.mark.xdist_group("faults on sqlite")
@pytest.mark.parametrize(
    "faults",
    [
        ("start-without-segments", "kill", "drain", "full-disk"),
        ("freeze", "stop-and-go", "cut-segment"),
        ("join", "grow", "hold-segment", "refuse-segment"),
        ("shrink", "take-ids", "lock-sqlite", "freeze-segment"),
        ("delete-segment",),
    ],
    ids=" ".join,
)
async def test_a_campaign_on_sqlite_outlasts(
    faults: Sequence[str], sqlite_playground: FaultRunner
) -> None:
    _assert_well(await _played(sqlite_playground, "sqlite", faults))


@pytest.mark.xdist_group("faults on postgres")
@pytest.mark.parametrize(
    "faults",
    [
        ("restart-postgres", "lose-commit", "stop-and-go"),
        ("crash-postgres", "cut-postgres", "grow", "join"),
        ("start-without-postgres", "hold-postgres", "kill", "freeze"),
        ("refuse-writes", "change-filter", "take-ids", "freeze-sender"),
        ("delete-segment",),
    ],
    ids=" ".join,
)
async def test_a_campaign_on_postgres_outlasts(
    faults: Sequence[str], postgres_playground: FaultRunner
) -> None:
    _assert_well(await _played(postgres_playground, "postgresql", faults))


@pytest.mark.xdist_group("faults on sqlite")
async def test_a_campaign_on_sqlite_outlasts_a_crash_at_a_page_and_one_in_the_recovery(
    sqlite_playground: FaultRunner,
) -> None:
    await _assert_outlasts_two_crashes(sqlite_playground, "sqlite")


@pytest.mark.xdist_group("faults on postgres")
async def test_a_campaign_on_postgres_outlasts_a_crash_at_a_page_and_one_in_the_recovery(
    postgres_playground: FaultRunner,
) -> None:
    await _assert_outlasts_two_crashes(postgres_playground, "postgresql")


@pytest.mark.xdist_group("faults on postgres")
@pytest.mark.parametrize("point", [Point.BEGUN, Point.BEFORE_COMMIT, Point.AFTER_COMMIT])
async def test_a_webhook_that_is_gone_is_disabled_wherever_its_servers_are_killed(
    postgres_playground: FaultRunner, point: Point
) -> None:
    """Its attempt is stored in the same transaction: nobody sends the event again and gets a 410."""
    crash = CrashPoint("webhook.disable", point, 1)

    outcome = await _played(postgres_playground, "postgresql", ["crash"], [crash])

    _assert_well(outcome)
    assert outcome.fired[f"crash {crash.step}:{crash.point}"]


@pytest.mark.xdist_group("faults on postgres")
async def test_three_campaign_servers_and_two_segment_servers_lose_one_of_each_every_second(
    postgres_playground: FaultRunner,
) -> None:
    outcome = await postgres_playground.play(crowded(seed=1, users=USERS, rate=USERS // 3))

    _assert_well(outcome)
    assert outcome.fired["kill"] >= 4


async def _assert_outlasts_two_crashes(playground: FaultRunner, dialect: Dialect) -> None:
    crashes = [
        CrashPoint("run.page", Point.BEFORE_COMMIT, 3),
        CrashPoint("run.page", Point.AFTER_COMMIT, 2),
        CrashPoint("targets.add", Point.AFTER_COMMIT, 1),
    ]

    outcome = await _played(playground, dialect, ["crash"], crashes)

    _assert_well(outcome)
    assert all(outcome.fired[f"crash {crash.step}:{crash.point}"] for crash in crashes)


async def _played(
    playground: FaultRunner,
    dialect: Dialect,
    faults: Sequence[str],
    crashes: Sequence[CrashPoint] = (),
) -> Outcome:
    return await playground.play(chosen(1, dialect, faults, crashes))


def _assert_well(outcome: Outcome) -> None:
    assert not outcome.problem, f"{outcome}\n{outcome.problem}"
    assert not outcome.missed, outcome
