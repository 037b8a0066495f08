"""A queue for the writers of one SQLite file."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_POLL_SECONDS = 0.001


class WriteTurn:
    """Whoever asks for SQLite's write lock first gets it first, over tasks and processes.

    SQLite has one writer and no queue: waiters poll ever more rarely, so a sender that takes the
    lock again at once starves everyone else. Here a writer holds the turn while it waits for the
    write lock and gives it back when it has it; one that comes straight back finds the turn taken.
    """

    def __init__(self, database_file: Path) -> None:
        self._file = os.open(f"{database_file}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._within_process = asyncio.Lock()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        async with self._within_process:
            while not self._try_lock():
                # flock has no awaitable form, and a blocking call in a thread can't be cancelled
                await asyncio.sleep(_POLL_SECONDS)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        os.close(self._file)
