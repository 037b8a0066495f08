"""Processes that get no time: they answer nothing, and their connections stay open. Linux only."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

from tests.harness.processes import Server


@contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """Gives time back at the end to those that are left."""
    _signal_all(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal_all(pids, signal.SIGCONT)


@contextmanager
def frozen_between_writes(server: Server) -> Iterator[None]:
    """Freezes a server where it keeps no writer of SQLite waiting.

    One that is frozen in a transaction has SQLite's only write lock until it wakes up, and each
    server is in one once a second, to learn whether it could write.
    """
    pids = server.processes()
    while True:
        with frozen(pids):
            _wait_until_stopped(pids)
            if not _exclusive_locks(pids):
                yield
                return
        Event().wait(0.01)


def _signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait_until_stopped(pids: Sequence[int]) -> None:
    """Each thread stops when it notices the signal."""
    while not all(map(_is_stopped, pids)):
        Event().wait(0.001)


def _is_stopped(pid: int) -> bool:
    try:
        stats = [each.joinpath("stat").read_text() for each in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:
        # a thread has just ended
        return False
    # before the state are the number and, in parentheses, the name
    return {stat.rpartition(")")[2].split()[0] for stat in stats} == {"T"}


def _exclusive_locks(pids: Sequence[int]) -> Sequence[str]:
    locks = Path("/proc/locks").read_text().splitlines()
    # the number, the kind, "ADVISORY", "WRITE" or "READ", and the process
    return [lock for lock in locks if lock.split()[3:5] in [["WRITE", str(pid)] for pid in pids]]
