"""What fails is done again, after longer pauses, and the log has a line for each outage."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from herald_rpc.process.outages import Outages, RepeatingWorker

DOWN = ConnectionError("down")


class Worker(RepeatingWorker):
    """Takes the step that it is given."""

    def __init__(self, step: Callable[[], Awaitable[float]], longest_pause_seconds: float) -> None:
        super().__init__("a worker", ConnectionError, longest_pause_seconds=longest_pause_seconds)
        self._step = step

    async def step(self) -> float:
        return await self._step()


def test_pauses_grow_up_to_the_longest_and_begin_anew_after_the_outage() -> None:
    outages = Outages(ConnectionError, longest_pause_seconds=3.0)

    pauses = [outages.failed("a", DOWN) for _ in range(30)]
    outages.over("a")
    after = outages.failed("a", DOWN)

    ceilings = [min(0.2 * 2.0**failures, 3.0) for failures in range(30)]
    assert all(0.5 * c <= pause <= c for pause, c in zip(pauses, ceilings, strict=True))
    assert len(set(pauses)) > 20
    assert after <= 0.2


def test_an_outage_is_logged_once_and_so_is_its_end() -> None:
    outages = Outages(ConnectionError)
    with capture_logs() as log:
        for _ in range(3):
            outages.failed("a", DOWN)
            outages.failed("b", DOWN)
        outages.over("a")
        outages.over("a")
        outages.over("never failed")
        outages.failed("a", DOWN)

    assert [(line["event"], line["what"]) for line in log] == [
        ("fails for now", "a"),
        ("fails for now", "b"),
        ("works again", "a"),
        ("fails for now", "a"),
    ]


@pytest.mark.parametrize(
    "error", [LookupError(), ExceptionGroup("both", [DOWN, LookupError()])], ids=["alone", "among"]
)
def test_an_error_that_nobody_expected_is_logged_with_its_traceback(error: Exception) -> None:
    outages = Outages(ConnectionError)
    with capture_logs() as log:
        outages.failed("a", DOWN)
        outages.failed("a", error)
        outages.failed("a", error)

    assert [line["log_level"] for line in log] == ["warning", "error"]
    assert log[1]["exc_info"] is error


def test_what_is_paused_is_known_by_its_name() -> None:
    outages = Outages(longest_pause_seconds=3_600)
    for _ in range(30):
        outages.failed("a", DOWN)

    assert (outages.is_paused("a"), outages.is_paused("b"), bool(outages)) == (True, False, True)
    outages.over("a")
    assert (outages.is_paused("a"), bool(outages)) == (False, False)


async def test_a_step_that_fails_is_repeated_and_is_well_again_when_it_is_done() -> None:
    health: list[bool] = []
    stop = asyncio.Event()

    async def step() -> float:
        health.append(worker.is_well)
        if len(health) == 5:
            stop.set()
        if len(health) in {2, 3}:
            raise LookupError
        return 0.0

    worker = Worker(step, longest_pause_seconds=0.01)
    await worker.run(stop)

    assert health == [True, True, False, False, True]


async def test_a_worker_that_is_told_to_stop_in_a_pause_does_not_wait_for_its_end() -> None:
    stop = asyncio.Event()

    async def step() -> float:
        asyncio.get_running_loop().call_soon(stop.set)
        return 3_600.0

    await Worker(step, longest_pause_seconds=3_600).run(stop)


async def test_a_cancelled_worker_is_cancelled() -> None:
    begun = asyncio.Event()

    async def step() -> float:
        begun.set()
        await asyncio.Event().wait()
        return 0.0

    task = asyncio.create_task(Worker(step, longest_pause_seconds=1).run(asyncio.Event()))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
