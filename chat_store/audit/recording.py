"""Writes the audit rows of changes and of refused calls."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.audit.callers import Caller
from chat_store.audit.entries import FIELDS, AuditedChange, Refusal
from chat_store.audit.tables import audit_pending
from chat_store.database.bulk.prepared import prepared_once

_INSERT = (
    insert(audit_pending)
    .inline()
    .values({name: bindparam(name, type_=audit_pending.c[name].type) for name in FIELDS})
)


async def record(connection: AsyncConnection, *changes: AuditedChange) -> None:
    """Writes a row for each change, in the transaction of the change.

    Changes without a caller leave none: a server makes them by itself, as when it starts a campaign
    at its time, and the histories of campaigns and webhooks have them.
    """
    if given := [(change, change.caller) for change in changes if change.caller]:
        now = datetime.now(UTC)
        await _write(
            connection,
            [
                _row(
                    caller,
                    now,
                    resource=change.resource,
                    revision_before=change.revision_before,
                    revision_after=change.revision_after,
                )
                for change, caller in given
            ],
        )


async def record_refusals(connection: AsyncConnection, refusals: Sequence[Refusal]) -> None:
    """Writes a row for each refused call. There is at least one."""
    await _write(
        connection,
        [_row(refused.caller, refused.at, refusal=refused.reason) for refused in refusals],
    )


def _row(caller: Caller, created_at: datetime, **values: Any) -> dict[str, Any]:
    return {
        "created_at": created_at,
        "principal_id": caller.principal_id,
        "principal_name": caller.principal_name,
        "method": caller.method,
        "resource": "",
        "revision_before": None,
        "revision_after": None,
        "refusal": "",
        "request_id": caller.request_id,
        "peer": caller.peer,
        **values,
    }


async def _write(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    await prepared_once(_INSERT, connection.dialect).write(connection, rows)
