"""A fair queue for the writers of one SQLite file."""

import asyncio
import fcntl
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

_POLL_SECONDS = 0.001
# longest time one process keeps the lock while another waits: a few small calls
_MAX_STREAK_SECONDS = 0.02
_MAX_YIELD_SECONDS = 0.1
_BACKGROUND_WAIT_SECONDS = 0.25
PRIVATE_FILE = 0o600
"""The mode of the database and of the files beside it: its owner's alone."""

Attempt = Callable[[], bool]
"""Takes the write lock if it is free. Returns whether it has."""

LockPolicy = Callable[[Attempt], bool]
"""Makes the attempt, unless others go first. Returns whether the lock is taken."""

LockAttempts = Callable[[LockPolicy, float], Awaitable[bool]]
"""Tries by the policy, for the given seconds, to take the write lock. Returns whether it has.

It may go on to the transaction's end.
"""


class FairWriteLock:
    """Shares SQLite's one write lock fairly among the tasks of a process and among processes.

    SQLite has one writer and no queue: waiters poll ever more rarely, so a sender that takes the
    lock again at once starves all others. Here a writer locks the queue file while it waits for
    the write lock, until its attempts return. A process that has had its share lets waiting
    processes go first. This is about fairness only: the write lock itself is SQLite's.

    `background` writers, with long transactions one after the other, let all others go first and
    do not hold the queue while they wait. So other writers wait for the running transaction, but
    not for the next one too. After 0.25 s, background writers queue like all others.
    """

    def __init__(self, database_file: Path, *, background: bool = False) -> None:
        self._database_file = database_file
        self.process_lock = asyncio.Lock()
        """Callers of `acquire` must hold it."""
        self._streak_started_at = 0.0
        self._background = background

    # opened by the first writer, because readers create nothing
    @cached_property
    def _queue_file(self) -> int:
        return _open(f"{self._database_file}-turn")

    @cached_property
    def _waiters_file(self) -> int:
        """Held shared by every process that waits for the queue file."""
        return _open(f"{self._database_file}-turn-waiting")

    async def acquire(self, attempts: LockAttempts, until: float) -> None:
        """Returns once `attempts` succeeds. Raises TimeoutError if it has not by `until`."""
        if self._background:
            if await attempts(self._if_nobody_waits, _BACKGROUND_WAIT_SECONDS):
                return
        elif time.monotonic() - self._streak_started_at > _MAX_STREAK_SECONDS:
            await self._yield_to_others()
        await self._acquire_in_queue(attempts, until)

    def _if_nobody_waits(self, attempt: Attempt) -> bool:
        if not self._nobody_waits() or not _try_lock(self._queue_file, fcntl.LOCK_EX):
            return False
        try:
            return attempt()
        finally:
            fcntl.flock(self._queue_file, fcntl.LOCK_UN)

    async def _acquire_in_queue(self, attempts: LockAttempts, until: float) -> None:
        waited = not _try_lock(self._queue_file, fcntl.LOCK_EX)
        if waited:
            async with asyncio.timeout(until - time.monotonic()):
                await self._wait_in_queue()
        try:
            if not await attempts(_immediately, until - time.monotonic()):
                raise TimeoutError
        finally:
            fcntl.flock(self._queue_file, fcntl.LOCK_UN)
        if waited:
            # the share begins now: the wait, maybe for another's page, does not count
            self._streak_started_at = time.monotonic()

    async def _wait_in_queue(self) -> None:
        await _locked(self._waiters_file, fcntl.LOCK_SH)
        try:
            await _locked(self._queue_file, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._waiters_file, fcntl.LOCK_UN)

    async def _yield_to_others(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_MAX_YIELD_SECONDS):
                while not self._nobody_waits():  # noqa: ASYNC110 - as above
                    await asyncio.sleep(_POLL_SECONDS)
        self._streak_started_at = time.monotonic()

    def _nobody_waits(self) -> bool:
        nobody = _try_lock(self._waiters_file, fcntl.LOCK_EX)
        if nobody:
            fcntl.flock(self._waiters_file, fcntl.LOCK_UN)
        return nobody

    def close(self) -> None:
        for name in ("_queue_file", "_waiters_file"):
            # no file is opened for the sake of its end
            if name in self.__dict__:
                os.close(self.__dict__.pop(name))


def _immediately(attempt: Attempt) -> bool:
    return attempt()


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)


async def _locked(file: int, kind: int) -> None:
    # flock has no awaitable form, and a blocking call in a thread can't be cancelled
    while not _try_lock(file, kind):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)


def _try_lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
