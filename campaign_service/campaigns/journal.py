"""A line in the log for each turn of a campaign's life, with the campaign's id.

Each is logged after its transaction, by the process that has made it, so that the logs of all
processes together have it once.
"""

from datetime import datetime

import structlog

logger = structlog.get_logger("campaign_service.campaign")


def scheduled(campaign_id: str, start_at: datetime | None, stop_at: datetime | None) -> None:
    logger.info(
        "campaign scheduled",
        campaign_id=campaign_id,
        start_at=_shown(start_at),
        stop_at=_shown(stop_at),
    )


def started(campaign_id: str, targets: int, *, resumed: bool) -> None:
    event = "campaign resumed" if resumed else "campaign started"
    logger.info(event, campaign_id=campaign_id, targets=targets)


def waits(campaign_id: str, reason: str) -> None:
    """Logs what the campaign waits for; an empty reason means that it waits no more."""
    if reason:
        logger.info("campaign waits", campaign_id=campaign_id, reason=reason)
    else:
        logger.info("campaign goes on", campaign_id=campaign_id)


def completed(campaign_id: str, **counts: int) -> None:
    logger.info("campaign completed", campaign_id=campaign_id, **counts)


def stopped(campaign_id: str, reason: str, **counts: int) -> None:
    """Logs who or what has stopped the campaign."""
    logger.info("campaign stopped", campaign_id=campaign_id, reason=reason, **counts)


def deleted(campaign_id: str) -> None:
    logger.info("campaign deleted", campaign_id=campaign_id)


def _shown(time: datetime | None) -> str:
    return time.isoformat() if time else ""
