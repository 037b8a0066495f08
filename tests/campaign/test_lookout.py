"""What the senders of one process leave to each other."""

import asyncio

import pytest

from campaign_service.sending import lookout
from campaign_service.sending.lookout import Lookout


async def test_pages_are_written_one_at_a_time() -> None:
    among = Lookout(asyncio.Semaphore())
    writing: set[int] = set()

    async def write(page: int) -> None:
        async with among.page_turn():
            assert not writing
            writing.add(page)
            await asyncio.sleep(0)
            writing.remove(page)

    await asyncio.gather(*(write(page) for page in range(5)))

    assert not among.writing.locked()


async def test_a_page_that_takes_long_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookout, "_LONGEST_TURN_SECONDS", 0.01)
    among = Lookout(asyncio.Semaphore())

    async with among.page_turn(), among.page_turn():
        assert among.writing.locked()

    assert not among.writing.locked()


async def test_a_page_that_fails_gives_its_turn_back() -> None:
    among = Lookout(asyncio.Semaphore())

    with pytest.raises(RuntimeError):
        async with among.page_turn():
            raise RuntimeError

    assert not among.writing.locked()
