"""Work on an event loop of its own, where it holds up nobody else."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Begun:
    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[None] | None
    stop: asyncio.Event


async def run_apart(work: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event) -> None:
    """Runs `work` on an event loop in a thread of its own; returns or raises what it does.

    The event that `work` gets is set when `stop` is. Whoever cancels this call cancels the work,
    and waits for its end.
    """
    begun: Future[_Begun] = Future()

    async def begin() -> None:
        handed = _Begun(asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event())
        begun.set_result(handed)
        await work(handed.stop)

    ended = asyncio.ensure_future(asyncio.to_thread(asyncio.run, begin()))
    there = await asyncio.wrap_future(begun)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            there.loop.call_soon_threadsafe(there.stop.set)
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        if not ended.done() and there.task:
            there.loop.call_soon_threadsafe(there.task.cancel)
        await asyncio.wait([ended])
        raise
    finally:
        stopped.cancel()
