"""Work on a loop of its own ends with its caller, and its caller with it."""

import asyncio
import threading

import pytest

from herald_rpc.own_loop import run_apart


async def test_the_work_runs_in_another_thread_and_ends_the_call() -> None:
    threads = []

    async def work(_: asyncio.Event) -> None:
        threads.append(threading.get_ident())

    await run_apart(work, asyncio.Event())

    assert threads != [threading.get_ident()]


async def test_the_works_stop_is_set_when_the_callers_is() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    steps = []

    async def work(stop_there: asyncio.Event) -> None:
        loop.call_soon_threadsafe(stop.set)
        await stop_there.wait()
        steps.append("the last page")

    await run_apart(work, stop)

    assert steps == ["the last page"]


async def test_what_the_work_raises_is_raised() -> None:
    async def work(_: asyncio.Event) -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await run_apart(work, asyncio.Event())


async def test_whoever_is_cancelled_cancels_the_work_and_waits_for_its_end() -> None:
    begun, cleaned_up = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    async def work(stop_there: asyncio.Event) -> None:
        loop.call_soon_threadsafe(begun.set)
        try:
            await stop_there.wait()
        finally:
            cleaned_up.append(True)

    call = asyncio.ensure_future(run_apart(work, asyncio.Event()))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert cleaned_up == [True]


async def test_work_that_holds_its_loop_holds_up_nobody_else() -> None:
    release = threading.Event()

    async def work(_: asyncio.Event) -> None:
        assert release.wait(10)

    call = asyncio.ensure_future(run_apart(work, asyncio.Event()))
    await asyncio.sleep(0)
    release.set()

    await call
