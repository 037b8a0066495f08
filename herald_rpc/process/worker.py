"""The interface of the background workers of a server."""

import asyncio
from typing import Protocol


class Worker(Protocol):
    @property
    def is_well(self) -> bool:
        """Whether its work succeeds."""

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set, and then finishes the work in progress."""
