"""Runs long work in a thread, so that the event loop answers other calls meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")

SHORT_BYTES = 8 * 1024
"""JSON up to this size is read, checked and compiled within a few milliseconds."""

# one thread: several would compete with the event loop for the interpreter lock
_thread = ThreadPoolExecutor(1, "aside")


async def aside(work: Callable[[], _T]) -> _T:
    """Returns the work's result. Work is not begun if its caller is cancelled before its turn."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)


async def aside_if(long: bool, work: Callable[[], _T]) -> _T:  # noqa: FBT001 - reads as one word
    """Does short work at once, because starting it in a thread would take longer than doing it."""
    return await aside(work) if long else work()
