"""`python -m campaign_service verify`: the conservation law, recounted from the database."""

from enum import IntEnum
from functools import partial

import typer

from campaign_service.campaigns.errors import CampaignNotFoundError
from campaign_service.campaigns.invariants import described, laws
from campaign_service.commands.at_database import UnusableDatabaseError, at_database
from campaign_service.storage.audit import recount


class Verdict(IntEnum):
    """What a recount has found, as an exit code."""

    HOLDS = 0
    BROKEN = 1
    UNKNOWN = 2


def verify(campaign_id: str, database_url: str) -> Verdict:
    """Prints every count and every law. Changes nothing."""
    try:
        found = at_database(database_url, partial(recount, campaign_id=campaign_id))
    except (CampaignNotFoundError, UnusableDatabaseError) as error:
        typer.echo(error, err=True)
        return Verdict.UNKNOWN
    for name, value in described(found):
        typer.echo(
            f"{name:<44}{value:>14,}" if isinstance(value, int) else f"{name:<44}{value:>14}"
        )
    holds = True
    for law in laws(found):
        holds = holds and law.holds
        typer.echo(f"{'ok' if law.holds else 'BROKEN':<8}{law.text}")
    return Verdict.HOLDS if holds else Verdict.BROKEN
