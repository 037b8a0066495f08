"""The worker that starts and stops campaigns at their times."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog

from campaign_service.campaigns.errors import (
    CampaignError,
    QuotaExceededError,
    ReferenceGoneError,
    SegmentServiceUnavailableError,
)
from campaign_service.campaigns.waiting import INTERNAL_ERROR, TO_START
from campaign_service.lifecycle.lifecycle import Lifecycle
from campaign_service.storage.ports import DueTransition, TransitionStore
from chat_store.errors import StoreUnavailableError
from herald_rpc.process.outages import Outages, RepeatingWorker

logger = structlog.get_logger(__name__)

_POLL_SECONDS = 0.25


class Scheduler(RepeatingWorker):
    """Fires due campaigns. Due times are in the database, so a restart loses nothing.

    Several schedulers, in several processes, fire each one once, because each transition is bound
    to the revision of the campaign that was due.
    """

    def __init__(
        self, transitions: TransitionStore, lifecycle: Lifecycle, *, now: Callable[[], datetime]
    ) -> None:
        super().__init__("the schedule", StoreUnavailableError)
        self._transitions = transitions
        self._lifecycle = lifecycle
        self._now = now
        # of single campaigns, by name
        self._campaign_outages = Outages()

    async def step(self) -> float:
        await self.run_once()
        return _POLL_SECONDS

    async def run_once(self) -> None:
        """Fires every campaign that is due. One that can't be fired holds up no other."""
        for due in await self._transitions.due(self._now()):
            name = f"campaign {due.campaign_id}"
            if self._campaign_outages.is_paused(name):
                continue
            try:
                await self._fire(due)
            except StoreUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the others are moved
                self._campaign_outages.failed(name, error)
                await self._explain(due, INTERNAL_ERROR)
            else:
                self._campaign_outages.over(name)

    async def _fire(self, due: DueTransition) -> None:
        log = logger.bind(campaign_id=due.campaign_id)
        try:
            await self._lifecycle.fire_due(due)
        except (ReferenceGoneError, QuotaExceededError) as error:
            log.warning("can't start", reason=str(error))
            await self._give_up(due, str(error))
        except SegmentServiceUnavailableError as error:
            await self._explain(due, str(error))
        except CampaignError as error:
            # somebody else stopped, started or deleted it a moment ago
            log.info("not due any more", reason=str(error))

    async def _explain(self, due: DueTransition, cause: str) -> None:
        reason = f"{TO_START}{cause}"
        # otherwise every check would take SQLite's write lock to write the same text
        if reason != due.status_reason:
            await self._transitions.set_status_reason(due.campaign_id, reason, due.revision)

    async def _give_up(self, due: DueTransition, reason: str) -> None:
        with suppress(CampaignError):
            await self._transitions.stop(
                due.campaign_id, reason, self._now(), revision=due.revision
            )
