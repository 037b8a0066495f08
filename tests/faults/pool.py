"""Many runs, some at a time."""

import asyncio
import multiprocessing
import multiprocessing.util
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path

from tests.faults.cluster import restartable_postgres
from tests.faults.fault_runner import FaultRunner
from tests.faults.run import Outcome
from tests.faults.scenario import Scenario

# the logs and the database of what was broken stay here
_FOLDER = Path("data/faults")


def played(scenarios: Iterator[Scenario], jobs: int, users: int) -> Iterator[Outcome]:
    """So many at a time, in their order; each process has databases and servers of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(partial(_play, users), scenarios)


def _play(users: int, scenario: Scenario) -> Outcome:
    return asyncio.run(_playground(users).play(scenario))


@cache
def _playground(users: int) -> FaultRunner:
    """One for each process, with a PostgreSQL of its own."""
    stack = ExitStack()
    # what this process leaves behind is taken away when it ends
    multiprocessing.util.Finalize(None, stack.close, exitpriority=1)
    folder = _FOLDER / str(os.getpid())
    folder.mkdir(parents=True)
    stack.callback(_remove_unless_broken, folder)
    postgres = stack.enter_context(restartable_postgres())
    return FaultRunner(folder.resolve(), postgres, users=users)


def _remove_unless_broken(folder: Path) -> None:
    if not list(folder.glob("seed-*")):
        shutil.rmtree(folder)
