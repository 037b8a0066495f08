import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from chat_store.database.crash_points import VARIABLE, CrashPoint, Point
from tests.faults.extra_calls import ERRANDS
from tests.faults.scenario import NEEDS, REACHABLE, UNREACHABLE
from tests.faults.steps import LIBRARY_STEPS, module_of, steps_in_source

pytestmark = pytest.mark.nightly_on("postgresql")

_TWO_WRITES = """
import asyncio, sys
from sqlalchemy import text
from chat_store.database.engine import open_database

async def main() -> None:
    database = open_database(sys.argv[1])
    async with database.transaction("step") as connection:
        await connection.execute(text("CREATE TABLE t1 (id INTEGER)"))
    await database.transaction_in_thread("step", lambda c: c.execute("CREATE TABLE t2 (id INTEGER)"))
    await database.close()

asyncio.run(main())
"""


def test_every_write_of_the_product_is_a_step_with_a_name_of_its_own() -> None:
    steps = Counter(steps_in_source())

    assert steps.total() > 30
    assert "" not in steps
    assert {step for step, times in steps.items() if times > 1} == set()


def test_the_suite_knows_how_a_server_comes_to_each_step() -> None:
    """A new step is put among them: by an errand, a fault, or in words that say why not."""
    of_every_run = {
        "campaign.create",
        "campaign.start",
        # old events and attempts are looked for at each start
        "events.forget",
        "webhook.forget",
        "hold.begin",
        "hold.check",
        "run.begin-pass",
        "run.claim",
        "run.finish-pass",
        "run.page",
        "run.renew",
        "run.reserve",
        "schema.migrate",
        "segment.create",
        "sizing.claim",
        "sizing.finish",
        "targets.add",
    }

    assert of_every_run | ERRANDS.keys() | NEEDS.keys() == REACHABLE
    assert set(steps_in_source()) == REACHABLE | UNREACHABLE | LIBRARY_STEPS
    assert {module_of(step) for step in REACHABLE} == {"campaign_service", "segment_service"}


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("crash", "tables"),
    [
        (CrashPoint("step", Point.BEGUN, 1), []),
        (CrashPoint("step", Point.BEFORE_COMMIT, 1), []),
        (CrashPoint("step", Point.AFTER_COMMIT, 1), ["t1"]),
        (CrashPoint("step", Point.BEGUN, 2), ["t1"]),
        (CrashPoint("step", Point.BEFORE_COMMIT, 2), ["t1"]),
        (CrashPoint("step", Point.AFTER_COMMIT, 2), ["t1", "t2"]),
    ],
    ids=str,
)
def test_a_process_dies_at_its_point_and_leaves_what_was_committed(
    crash: CrashPoint, tables: list[str], tmp_path: Path
) -> None:
    result = _write_twice(tmp_path, {VARIABLE: str(crash)})

    assert result.returncode == -signal.SIGKILL
    assert f"{VARIABLE}: killed at {crash}" in result.stderr
    assert _tables(tmp_path) == tables


@pytest.mark.nightly
@pytest.mark.parametrize(
    "environment",
    [{}, {VARIABLE: ""}, {VARIABLE: "step:begun:3"}, {VARIABLE: "other:begun:1"}],
    ids=["unset", "empty", "never so often", "another step"],
)
def test_a_process_that_does_not_come_to_its_point_lives(
    environment: dict[str, str], tmp_path: Path
) -> None:
    result = _write_twice(tmp_path, environment)

    assert result.returncode == 0
    assert _tables(tmp_path) == ["t1", "t2"]


@pytest.mark.parametrize("text", ["step", "step:begun", "step:nowhere:1", "step:begun:often"])
def test_a_point_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        CrashPoint.parse(text)


def _write_twice(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    url = f"sqlite+aiosqlite:///{folder}/herald.db"
    return subprocess.run(
        [sys.executable, "-c", _TWO_WRITES, url],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _tables(folder: Path) -> list[str]:

    with closing(sqlite3.connect(folder / "herald.db")) as connection:
        found = connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    return [name for (name,) in found]
