"""The worker that counts the targets of segments with a definition."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from chat_store.errors import StoreUnavailableError
from herald_rpc.process.outages import RepeatingWorker
from segment_service.errors import SegmentError, SegmentFilterRefusedError
from segment_service.store import SizingStore, TargetStore

# Another replica takes over a count that is not finished within this time.
_LEASE = timedelta(minutes=2)
_POLL_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class SizingWorker(RepeatingWorker):
    """Counts new and changed segments within seconds, and every segment again each `interval`.

    Due times are in the database, so any number of workers share them and a crash loses nothing.
    """

    def __init__(
        self,
        sizing: SizingStore,
        targets: TargetStore,
        now: Callable[[], datetime],
        interval: timedelta,
    ) -> None:
        super().__init__("counting segments", StoreUnavailableError)
        self._sizing = sizing
        self._targets = targets
        self._now = now
        self._interval = interval

    async def step(self) -> float:
        return 0.0 if await self.run_once() else _POLL_SECONDS

    async def run_once(self) -> bool:
        """Counts the segment that has been due longest. Returns False if none is due.

        If cancelled during a count, it leaves that segment due.
        """
        now = self._now()
        claim = await self._sizing.claim(now, now + _LEASE)
        if claim is None:
            return False
        try:
            # no sender: segments of a sender's channels are never due
            size = await self._targets.count([claim.segment_id], "")
        except asyncio.CancelledError:
            await self._sizing.give_back(claim, now)
            raise
        except StoreUnavailableError:
            raise
        except SegmentFilterRefusedError as refused:
            logger.warning(
                "a segment is not counted because its filter is refused", error=str(refused)
            )
            await self._sizing.give_back(claim, now + self._interval)
            return True
        except SegmentError:
            # deleted a moment ago, so it is not due any more
            return True
        except Exception:
            # a filter that the database can't evaluate must not stop the other counts
            logger.exception("a segment can't be counted", segment_id=claim.segment_id)
            return True
        counted_at = self._now()
        await self._sizing.finish(claim, size, counted_at, counted_at + self._interval)
        return True
