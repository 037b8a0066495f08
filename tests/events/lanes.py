"""Rows of webhooks' lanes and attempts, for tests that write to the tables directly."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from campaign_service.campaigns.events import Offset
from campaign_service.campaigns.webhooks import Attempt, AttemptOutcome, Lane
from campaign_service.storage.event_tables import webhook_lanes
from chat_store.database.engine import Database

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
NO_LEASE: dict[str, Any] = {"lease": None, "lease_until": None}


def a_lane(webhook_id: str, campaign_id: str) -> dict[str, Any]:
    return {
        "webhook_id": webhook_id,
        "campaign_id": campaign_id,
        "replay_id": "",
        "position": 1,
        "number": 0,
        "end_position": 2,
        "end_number": 0,
        "attempts": 0,
        "lease": f"of {webhook_id} {campaign_id}",
        "lease_until": LATER,
    }


def leased(webhook_id: str) -> Lane:
    """The lane of `a_lane` for the campaign `spring`."""
    return Lane(
        webhook_id=webhook_id,
        campaign_id="spring",
        replay_id="",
        offset=Offset(1),
        end=Offset(2),
        types=None,
        not_before=None,
        not_after=None,
        batch_end=None,
        failed=None,
        attempts=0,
        first_attempt_at=None,
        lease=f"of {webhook_id} spring",
    )


def an_attempt(
    id_: str, number: int = 1, outcome: AttemptOutcome = AttemptOutcome.RETRYING
) -> Attempt:
    """At a batch of the webhook `crm`. The first is announced to be repeated."""
    return Attempt(
        id=id_ if number == 1 else f"again-{id_}",
        webhook_id="crm",
        campaign_id="spring",
        event_id=f"event-{id_}",
        event_type="message.new",
        events=1,
        attempt=number,
        attempted_at=NOW,
        response_status=500,
        error="",
        outcome=outcome,
        next_attempt_at=LATER if number == 1 else None,
        start=Offset(1),
        end=Offset(2),
        types=(),
    )


async def store_lanes(database: Database, lanes: list[dict[str, Any]]) -> None:
    async with database.transaction() as connection:
        for lane in lanes:
            await connection.execute(insert(webhook_lanes).values(lane))
