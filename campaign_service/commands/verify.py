"""`herald verify`: recounts the database and checks the invariants."""

from enum import IntEnum
from functools import partial

import typer

from campaign_service.campaigns.errors import CampaignNotFoundError
from campaign_service.campaigns.invariants import invariants, recount_lines
from campaign_service.commands.at_database import UnusableDatabaseError, at_database
from campaign_service.storage.recount import recount


class Verdict(IntEnum):
    """The result of a recount, as an exit code."""

    HOLDS = 0
    BROKEN = 1
    UNKNOWN = 2


def verify(campaign_id: str, database_url: str) -> Verdict:
    """Prints every count and every invariant. Changes nothing."""
    try:
        found = at_database(database_url, partial(recount, campaign_id=campaign_id))
    except (CampaignNotFoundError, UnusableDatabaseError) as error:
        typer.echo(error, err=True)
        return Verdict.UNKNOWN
    for name, value in recount_lines(found):
        typer.echo(
            f"{name:<44}{value:>14,}" if isinstance(value, int) else f"{name:<44}{value:>14}"
        )
    holds = True
    for invariant in invariants(found):
        holds = holds and invariant.holds
        typer.echo(f"{'ok' if invariant.holds else 'BROKEN':<8}{invariant.text}")
    return Verdict.HOLDS if holds else Verdict.BROKEN
