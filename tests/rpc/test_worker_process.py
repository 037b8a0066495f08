"""A process that takes orders: it begins, stops and ends as it is told, and is replaced."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from herald_rpc.process.worker_process import WorkerProcess, WorkerProcessDiedError

# says what happens to it, a line each
_WORK = """
import asyncio, sys
from pathlib import Path
from herald_rpc.process.worker_process import follow_orders

async def main(log):
    stop, woken = asyncio.Event(), asyncio.Event()
    await follow_orders(stop, woken)
    print("begun", file=log)
    await stop.wait()
    print("stopped", file=log)

with Path(sys.argv[1]).open("a", buffering=1) as log:
    print("started", file=log)
    asyncio.run(main(log))
    sys.exit(int(sys.argv[2]))
"""


def a_worker(log: Path, code: int = 0) -> WorkerProcess:
    return WorkerProcess("a worker", [sys.executable, "-c", _WORK, str(log), str(code)])


async def has_said(log: Path, *lines: str) -> None:
    """Returns when it has; the test's own time-out is its bound."""
    while not log.exists() or log.read_text().split() != list(lines):  # noqa: ASYNC110, ASYNC240 - no event
        await asyncio.sleep(0.01)


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.is_running() and child.status() != "zombie" and _WORK in child.cmdline()
    ]


async def test_work_begins_with_run_and_ends_with_stop(tmp_path: Path) -> None:
    log, stop = tmp_path / "log", asyncio.Event()
    async with a_worker(log) as worker:
        await has_said(log, "started")
        running = asyncio.create_task(worker.run(stop))
        await has_said(log, "started", "begun")

        stop.set()
        await running

    assert log.read_text().split() == ["started", "begun", "stopped"]
    assert not children()


async def test_one_that_fails_as_it_stops_is_told(tmp_path: Path) -> None:
    log, stop = tmp_path / "log", asyncio.Event()
    async with a_worker(log, code=7) as worker:
        running = asyncio.create_task(worker.run(stop))
        await has_said(log, "started", "begun")

        stop.set()

        with pytest.raises(WorkerProcessDiedError, match="has ended with 7"):
            await running


async def test_one_that_has_not_begun_ends_at_once_when_it_is_to_stop() -> None:
    stop = asyncio.Event()
    stop.set()
    async with WorkerProcess("a worker", ["sleep", "3600"]) as worker:
        await worker.run(stop)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
async def test_one_that_starts_does_not_end_by_the_signal_of_a_terminal(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Whenever it comes: Python itself has not started yet, imports, or takes orders."""
    log, stop = tmp_path / "log", asyncio.Event()
    async with a_worker(log) as worker:
        (child,) = children()
        running = asyncio.create_task(worker.run(stop))
        while not log.exists() or log.read_text().split() != ["started", "begun"]:
            child.send_signal(number)
            await asyncio.sleep(0.001)

        stop.set()
        await running


async def test_several_that_start_at_once_leave_this_process_the_signals_of_its_terminal(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        workers = [a_worker(tmp_path / str(number)) for number in range(4)]
        await asyncio.gather(*map(stack.enter_async_context, workers))

        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])

    assert not {signal.SIGINT, signal.SIGHUP} & blocked


class LateWatcher(asyncio.ThreadedChildWatcher):
    """Learns that a process has ended no sooner than it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_learn = threading.Event()

    def _do_waitpid(self, *args: Any) -> None:
        self.may_learn.wait()
        super()._do_waitpid(*args)  # type: ignore[misc]


@pytest.fixture
def late_watcher() -> Iterator[LateWatcher]:
    usual, late = asyncio.get_child_watcher(), LateWatcher()
    asyncio.set_child_watcher(late)
    yield late
    late.may_learn.set()
    asyncio.set_child_watcher(usual)


async def test_one_that_ends_in_the_moment_in_which_it_is_to_stop_has_ended_well(
    late_watcher: LateWatcher,
) -> None:
    stop = asyncio.Event()
    async with WorkerProcess("a worker", ["sleep", "3600"]) as worker:
        running = asyncio.create_task(worker.run(stop))
        (child,) = (child for child in psutil.Process().children() if child.name() == "sleep")
        child.terminate()
        while child.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        stop.set()
        # the order to stop is given meanwhile
        for _ in range(5):
            await asyncio.sleep(0)
        late_watcher.may_learn.set()

        await running


async def test_one_that_dies_is_replaced_and_counts_as_unwell_meanwhile(tmp_path: Path) -> None:
    log, stop = tmp_path / "log", asyncio.Event()
    with capture_logs() as logs:
        async with a_worker(log) as worker:
            running = asyncio.create_task(worker.run(stop))
            await has_said(log, "started", "begun")
            well = [worker.is_well]

            (child,) = children()
            child.kill()
            await has_said(log, *["started", "begun"] * 2)
            well.append(worker.is_well)

            stop.set()
            await running
    assert well == [True, False]
    assert [line["error"] for line in logs] == ["a worker has ended with -9"]


async def test_a_command_that_cannot_be_started_again_is_tried_until_it_can(tmp_path: Path) -> None:
    program, stop = tmp_path / "program", asyncio.Event()
    log = tmp_path / "log"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{_WORK}' {log} 0\n")
    program.chmod(0o700)
    async with WorkerProcess("a worker", [str(program)]) as worker:
        running = asyncio.create_task(worker.run(stop))
        await has_said(log, "started", "begun")
        program.chmod(0o600)
        (child,) = children()
        with capture_logs() as logs:
            child.kill()
            while not any("Permission denied" in line.get("error", "") for line in logs):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        program.chmod(0o700)
        await has_said(log, *["started", "begun"] * 2)

        stop.set()
        await running


async def test_one_that_is_frozen_is_killed_when_whoever_waits_for_it_is_cancelled(
    tmp_path: Path,
) -> None:
    log, stop = tmp_path / "log", asyncio.Event()
    async with a_worker(log) as worker:
        running = asyncio.create_task(worker.run(stop))
        await has_said(log, "started", "begun")
        (child,) = children()
        child.suspend()
        stop.set()

        running.cancel()

        with pytest.raises(asyncio.CancelledError):
            await running
    assert not child.is_running()


async def test_stop_signals_are_left_to_whoever_gives_the_orders(tmp_path: Path) -> None:
    log, stop = tmp_path / "log", asyncio.Event()
    async with a_worker(log) as worker:
        running = asyncio.create_task(worker.run(stop))
        await has_said(log, "started", "begun")
        (child,) = children()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            os.kill(child.pid, number)
        stop.set()
        await running

    assert log.read_text().split() == ["started", "begun", "stopped"]
