"""`python -m campaign_service verify`: the conservation law, recounted from the database."""

import asyncio
from enum import IntEnum

import typer
from sqlalchemy.exc import SQLAlchemyError

from campaign_service.errors import CampaignNotFoundError
from campaign_service.recount import Recount, described, laws
from campaign_service.sql.recount import recount
from chat_store import schema
from chat_store.database import open_database
from chat_store.errors import ChatStoreError

# a missing driver, a server that is not there, and a schema of another version are among them
_DATABASE_ERRORS = (ChatStoreError, SQLAlchemyError, OSError, ImportError)


class Verdict(IntEnum):
    """What a recount has found, as an exit code."""

    HOLDS = 0
    BROKEN = 1
    UNKNOWN = 2


def verify(campaign_id: str, database_url: str) -> Verdict:
    """Prints every count and every law. Changes nothing."""
    try:
        found = asyncio.run(_recount(campaign_id, database_url))
    except CampaignNotFoundError as error:
        typer.echo(error, err=True)
        return Verdict.UNKNOWN
    except _DATABASE_ERRORS as error:
        typer.echo(f"the database: {error}", err=True)
        return Verdict.UNKNOWN
    except Exception as error:
        # the driver's own errors come as they are while a connection is being made
        if getattr(error, "sqlstate", None) is None:
            raise
        typer.echo(f"the database: {error}", err=True)
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


async def _recount(campaign_id: str, database_url: str) -> Recount:
    database = open_database(database_url)
    try:
        await schema.require_current_schema(database)
        return await recount(database, campaign_id)
    finally:
        await database.close()
