"""`herald restored`: an operator decides about a held database."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial

import typer

from campaign_service.campaigns.errors import CampaignError
from campaign_service.campaigns.holds import Because, HeldCampaign, Hold
from campaign_service.commands.at_database import UnusableDatabaseError, at_database
from campaign_service.storage.holds import SqlHoldStore
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.audit.callers import Caller, calling
from chat_store.database.engine import Database


class Answer(IntEnum):
    """The result of the decision, as an exit code."""

    DECIDED = 0
    NOTHING_IS_HELD = 1
    UNKNOWN = 2


@dataclass(frozen=True, slots=True)
class _Decided:
    hold: Hold
    campaigns: Sequence[HeldCampaign]


def restored(database_url: str, *, stop: bool) -> Answer:
    """Decides for all held campaigns, and prints the decision."""
    try:
        with calling(Caller(method="restored")):
            decided = at_database(database_url, partial(_decide, stop=stop))
    except UnusableDatabaseError as error:
        typer.echo(error, err=True)
        return Answer.UNKNOWN
    if decided is None:
        typer.echo("nothing is held: there is nothing to decide", err=True)
        return Answer.NOTHING_IS_HELD
    _print_decision(decided, stop=stop)
    return Answer.DECIDED


async def _decide(database: Database, *, stop: bool) -> _Decided | None:
    holds = SqlHoldStore(database)
    # begins a hold if no server has seen the database since it was restored
    hold = await holds.begin(start_held=False)
    if hold is None:
        return None
    campaigns = await holds.campaigns()
    if stop:
        transitions = SqlTransitionStore(database, shards=1)
        reason = f"stopped by an operator, because {hold.cause}"
        for campaign in campaigns:
            # raised if a caller has stopped or deleted it a moment ago
            with suppress(CampaignError):
                await transitions.stop(campaign.campaign_id, reason, datetime.now(UTC))
    # last, so that a command killed before has not ended the hold and can be repeated
    await holds.release()
    return _Decided(hold, campaigns)


def _print_decision(decided: _Decided, *, stop: bool) -> None:
    typer.echo(f"the database was held, because {decided.hold.cause}; the hold has ended")
    what = "stopped" if stop else "resumed"
    typer.echo(f"{what}: {len(decided.campaigns):,} campaigns")
    for campaign in decided.campaigns:
        typer.echo(f"  {campaign.campaign_id} ({campaign.status.replace('_', ' ')})")
    if decided.hold.because is Because.STARTED_HELD:
        typer.echo("a start with HERALD_START_HELD=true holds it again: unset it")
