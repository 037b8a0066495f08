"""A fair queue for the writers of one SQLite file."""

import asyncio
import fcntl
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

_POLL_SECONDS = 0.001
# how long one process may go on while another waits: some small calls
_STREAK_SECONDS = 0.02
_LONGEST_COURTESY_SECONDS = 0.1
_LONGEST_PATIENCE_SECONDS = 0.25

Attempt = Callable[[], bool]
"""Takes the write lock if it is free; says whether it has got it."""

Rule = Callable[[Attempt], bool]
"""Makes the attempt, or does not because others go first."""

Begin = Callable[[Rule, float], Awaitable[bool]]
"""Attempts by the rule until it has the write lock, for so many seconds; says whether it has.

It may go on to the transaction's end.
"""


class WriteTurn:
    """Shares SQLite's one write lock fairly over the tasks of a process and over processes.

    SQLite has one writer and no queue: waiters poll ever more rarely, so a sender that takes the
    lock again at once starves everyone else. Here a writer holds the turn while it waits for the
    write lock, until `begin` returns. A process that has had its share lets those who wait in
    others go first. It is about fairness only: the write lock itself is SQLite's.

    `patient` writers, whose transactions are long and never end, let all others go first, and
    hold no turn while they wait: whoever else comes waits for the transaction under way, and not
    for the next one, too. After a while they queue like everyone else.
    """

    def __init__(self, database_file: Path, *, patient: bool = False) -> None:
        self._turn = _open(f"{database_file}-turn")
        # held shared by every process that waits for the turn
        self._waiting = _open(f"{database_file}-turn-waiting")
        self.within_process = asyncio.Lock()
        """To be held by whoever calls `begun`."""
        self._streak_began = 0.0
        self._patient = patient

    async def begun(self, begin: Begin, until: float) -> None:
        """Returns when `begin` has said true; TimeoutError if it has not `until` then."""
        if self._patient:
            if await begin(self._after_others, _LONGEST_PATIENCE_SECONDS):
                return
        elif time.monotonic() - self._streak_began > _STREAK_SECONDS:
            await self._let_others_go()
        await self._begun_in_turn(begin, until)

    def _after_others(self, attempt: Attempt) -> bool:
        if not self._nobody_waits() or not _try_lock(self._turn, fcntl.LOCK_EX):
            return False
        try:
            return attempt()
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    async def _begun_in_turn(self, begin: Begin, until: float) -> None:
        waited = not _try_lock(self._turn, fcntl.LOCK_EX)
        if waited:
            async with asyncio.timeout(until - time.monotonic()):
                await self._wait()
        try:
            if not await begin(_at_once, until - time.monotonic()):
                raise TimeoutError
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        if waited:
            # a share begins with the write lock, which another's page may have kept for long
            self._streak_began = time.monotonic()

    async def _wait(self) -> None:
        await _locked(self._waiting, fcntl.LOCK_SH)
        try:
            await _locked(self._turn, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._waiting, fcntl.LOCK_UN)

    async def _let_others_go(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_COURTESY_SECONDS):
                while not self._nobody_waits():  # noqa: ASYNC110 - as above
                    await asyncio.sleep(_POLL_SECONDS)
        self._streak_began = time.monotonic()

    def _nobody_waits(self) -> bool:
        nobody = _try_lock(self._waiting, fcntl.LOCK_EX)
        if nobody:
            fcntl.flock(self._waiting, fcntl.LOCK_UN)
        return nobody

    def close(self) -> None:
        os.close(self._turn)
        os.close(self._waiting)


def _at_once(attempt: Attempt) -> bool:
    return attempt()


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


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
