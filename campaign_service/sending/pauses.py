"""Pauses that a stop ends."""

import asyncio
from contextlib import suppress


async def passed(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set; returns when it is, or when the time has passed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
