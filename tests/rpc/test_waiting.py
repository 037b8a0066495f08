"""Waiting takes no longer than it must, and pauses grow apart."""

import asyncio

from herald_rpc.process.waiting import Backoff, wait_at_most


async def test_an_event_that_comes_in_time_ends_the_wait() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)

    assert await wait_at_most(event, 3_600)
    assert await wait_at_most(event, 0)


async def test_an_event_that_does_not_come_is_not_waited_for_longer() -> None:
    assert not await wait_at_most(asyncio.Event(), 0.01)


async def test_without_a_bound_the_event_alone_ends_the_wait() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)

    assert await wait_at_most(event, None)


async def test_a_cancelled_wait_is_cancelled() -> None:
    waiting = asyncio.create_task(wait_at_most(asyncio.Event(), 3_600))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert waiting.cancelled()


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_reset() -> None:
    backoff = Backoff(0.1, 3.0)

    pauses = [backoff.next() for _ in range(30)]
    backoff.reset()
    after = backoff.next()

    ceilings = [min(0.1 * 2.0**tries, 3.0) for tries in range(30)]
    assert all(0.5 * c <= pause <= c for pause, c in zip(pauses, ceilings, strict=True))
    assert 0.05 <= after <= 0.1


def test_two_that_fail_together_do_not_come_back_together() -> None:
    one, other = Backoff(), Backoff()

    assert [one.next() for _ in range(20)] != [other.next() for _ in range(20)]


def test_no_pause_is_longer_than_the_longest_not_even_the_first() -> None:
    assert Backoff(0.2, 0.01).next() <= 0.01
