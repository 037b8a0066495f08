"""Asynchronous work out of synchronous code, whether or not a loop runs in this thread."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def run_in_new_loop(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs it to its end in a loop and a thread of its own; the caller's thread waits."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
