"""Workers of a server that stops: each ends, or is left behind."""

import asyncio

import pytest

from herald_rpc.server import shutdown
from herald_rpc.server.shutdown import Grace, run_bounded

FOR_GOOD = 3_600.0


class Worker:
    """Notes how it ended."""

    def __init__(self) -> None:
        self.ended = ""
        self.running = asyncio.Event()

    async def ends_by_itself(self, stop: asyncio.Event) -> None:
        self.running.set()
        await stop.wait()
        # some turns of the loop, which a grace of nothing would not leave
        for _ in range(10):
            await asyncio.sleep(0)
        self.ended = "by itself"

    async def goes_on(self) -> None:
        self.running.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = "cancelled"

    async def does_not_listen(self, let_go: asyncio.Event) -> None:
        self.running.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                self.ended = "not even cancelled"


@pytest.fixture
def worker() -> Worker:
    return Worker()


async def test_a_worker_ends_by_itself_within_the_grace(worker: Worker) -> None:
    stop = asyncio.Event()
    bounded = asyncio.create_task(run_bounded(worker.ends_by_itself(stop), stop, FOR_GOOD))
    await worker.running.wait()

    stop.set()
    await bounded

    assert worker.ended == "by itself"


async def test_a_worker_that_goes_on_is_cancelled_after_the_grace(worker: Worker) -> None:
    stop = asyncio.Event()
    bounded = asyncio.create_task(run_bounded(worker.goes_on(), stop, 0.01))
    await worker.running.wait()

    stop.set()
    await bounded

    assert worker.ended == "cancelled"


async def test_a_worker_that_does_not_even_end_when_cancelled_is_left_behind(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "_UNWINDING_SECONDS", 0.01)
    stop, let_go = asyncio.Event(), asyncio.Event()
    bounded = asyncio.create_task(run_bounded(worker.does_not_listen(let_go), stop, 0.01))
    await worker.running.wait()

    stop.set()
    await bounded

    assert worker.ended == "not even cancelled"
    let_go.set()


async def test_a_worker_is_not_cancelled_as_long_as_nobody_stops_it(worker: Worker) -> None:
    bounded = asyncio.create_task(run_bounded(worker.goes_on(), asyncio.Event(), 0.0))
    await worker.running.wait()

    done, _ = await asyncio.wait({bounded}, timeout=0.1)

    assert not done
    bounded.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bounded
    assert worker.ended == "cancelled"


async def test_what_a_worker_raises_is_raised() -> None:
    async def fails() -> None:
        raise LookupError("of its own")

    with pytest.raises(LookupError, match="of its own"):
        await run_bounded(fails(), asyncio.Event(), FOR_GOOD)


def test_a_grace_is_whole_until_it_begins_and_never_less_than_nothing() -> None:
    grace, over = Grace(FOR_GOOD), Grace(0.0)
    assert grace.left == FOR_GOOD

    grace.begin()
    over.begin()

    assert 0 < grace.left < FOR_GOOD
    assert over.left == 0
