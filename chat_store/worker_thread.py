"""Long work in a thread beside the event loop, so that other calls are answered meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")

SHORT_BYTES = 8 * 1024
"""JSON of this size is read, checked and compiled within some milliseconds."""

# one: several would take the interpreter from the event loop in turns
_thread = ThreadPoolExecutor(1, "aside")


async def aside(work: Callable[[], _T]) -> _T:
    """Its result. Work whose caller is cancelled before its turn is never begun."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)


async def aside_if(long: bool, work: Callable[[], _T]) -> _T:  # noqa: FBT001 - reads as one word
    """Short work is done at once: a thread would take longer to begin than the work itself."""
    return await aside(work) if long else work()
