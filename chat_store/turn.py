"""A fair queue for the writers of one SQLite file."""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_POLL_SECONDS = 0.001
# how long one process may go on while another waits: a page of a sender, some small calls
_STREAK_SECONDS = 0.02
_LONGEST_COURTESY_SECONDS = 0.1


class WriteTurn:
    """Shares SQLite's one write lock fairly over the tasks of a process and over processes.

    SQLite has one writer and no queue: waiters poll ever more rarely, so a sender that takes the
    lock again at once starves everyone else. Here a writer holds the turn while it waits for the
    write lock and gives it back when it has it. A process that has had its share lets those who
    wait in others go first. It is about fairness only: the write lock itself is SQLite's.
    """

    def __init__(self, database_file: Path) -> None:
        self._turn = _open(f"{database_file}-turn")
        # held shared by every process that waits for the turn
        self._waiting = _open(f"{database_file}-turn-waiting")
        self._within_process = asyncio.Lock()
        self._streak_began = 0.0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        async with self._within_process:
            if time.monotonic() - self._streak_began > _STREAK_SECONDS:
                await self._let_others_go()
            waited = not _try_lock(self._turn, fcntl.LOCK_EX)
            if waited:
                await self._wait()
            try:
                yield
            finally:
                fcntl.flock(self._turn, fcntl.LOCK_UN)
            if waited:
                # a share begins with the write lock, which another's page may have kept for long
                self._streak_began = time.monotonic()

    async def _wait(self) -> None:
        _try_lock(self._waiting, fcntl.LOCK_SH)
        try:
            await _locked(self._turn)
        finally:
            fcntl.flock(self._waiting, fcntl.LOCK_UN)

    async def _let_others_go(self) -> None:
        try:
            async with asyncio.timeout(_LONGEST_COURTESY_SECONDS):
                await _locked(self._waiting)
        except TimeoutError:
            pass
        else:
            fcntl.flock(self._waiting, fcntl.LOCK_UN)
        self._streak_began = time.monotonic()

    def close(self) -> None:
        os.close(self._turn)
        os.close(self._waiting)


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


async def _locked(file: int) -> None:
    # flock has no awaitable form, and a blocking call in a thread can't be cancelled
    while not _try_lock(file, fcntl.LOCK_EX):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)


def _try_lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
