"""The worker that checks whether the database is held, and reports it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from campaign_service.campaigns.holds import COMMAND, Hold, HoldStore
from chat_store.errors import StoreUnavailableError
from herald_rpc.process.outages import RepeatingWorker

logger = structlog.get_logger(__name__)

# a backup made less than this before its server is killed is not recognized as one
_POLL_SECONDS = 0.5
_BETWEEN_WARNINGS = timedelta(minutes=1)


class Withholds(Protocol):
    async def set_withheld(self, withheld: bool) -> None:  # noqa: FBT001 - a setter's one argument
        """Sets whether health checks report that the server holds back its work."""


class HoldWatch(RepeatingWorker):
    """Checks twice a second. Statements that send or fire check by themselves, in SQL."""

    def __init__(self, holds: HoldStore, server: Withholds, *, now: Callable[[], datetime]) -> None:
        super().__init__("the hold watch", StoreUnavailableError)
        self._holds = holds
        self._server = server
        self._now = now
        self._hold: Hold | None = None
        self._warned_at: datetime | None = None

    async def step(self) -> float:
        await self.run_once()
        return _POLL_SECONDS

    async def run_once(self) -> None:
        await self.report(await self._holds.check())

    async def report(self, hold: Hold | None) -> None:
        """Reports the hold to health checks and to the log, there at most once a minute."""
        if hold != self._hold:
            await self._server.set_withheld(hold is not None)
            if hold is None:
                logger.info("the hold of the database has ended: campaigns go on as decided")
            self._hold, self._warned_at = hold, None
        now = self._now()
        if hold and (self._warned_at is None or now - self._warned_at >= _BETWEEN_WARNINGS):
            self._warned_at = now
            logger.warning(
                "the database is held: nothing is sent or started until an operator decides",
                because=hold.cause,
                command=COMMAND,
            )
