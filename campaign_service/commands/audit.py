"""`python -m campaign_service audit verify`: verifies the audit log at the database."""

from enum import IntEnum
from functools import partial

import typer

from campaign_service.commands.at_database import UnusableDatabaseError, at_database
from chat_store.audit.entries import Head
from chat_store.audit.verifying import CutOffError, verify


class Verdict(IntEnum):
    """The result, as an exit code."""

    WHOLE = 0
    BROKEN = 1
    UNKNOWN = 2


def verify_chain(database_url: str, known: Head | None) -> Verdict:
    """Prints the first broken position, or else the head. Changes nothing."""
    try:
        found = at_database(database_url, partial(verify, known=known))
    except (CutOffError, UnusableDatabaseError) as error:
        typer.echo(error, err=True)
        return Verdict.UNKNOWN
    if found.fault:
        typer.echo(f"BROKEN at position {found.fault.position}: {found.fault.problem}")
        return Verdict.BROKEN
    first, last = found.cut.position + 1, found.head.position
    typer.echo(f"ok: positions {first} to {last}" if first <= last else "ok: no rows")
    if found.pending:
        typer.echo(f"not in the chain yet: {found.pending:,}")
    typer.echo(f"head {found.head}")
    return Verdict.WHOLE
