"""Queries the audit log in SQL."""

from typing import Any

from sqlalchemy import Row, select

from chat_store.audit.chain import SqlAuditChain
from chat_store.audit.entries import AuditEntry
from chat_store.audit.tables import audit_log
from chat_store.database.engine import Database
from chat_store.filters.predicates import Predicate
from chat_store.paging import Page, PageRequest
from chat_store.sql.filters import Binding
from chat_store.sql.paging import fetch_page

_BINDING = Binding(columns=dict(audit_log.c), key="position")


class SqlAuditLog:
    """See `chat_store.audit.store.AuditLog`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._chain = SqlAuditChain(database)

    async def query(self, predicate: Predicate, page: PageRequest) -> Page[AuditEntry]:
        # rows without a position are in no page
        await self._chain.grow()
        async with self._database.autocommit() as connection:
            return await fetch_page(
                connection,
                select(audit_log),
                page,
                _BINDING,
                self._database.dialect,
                _entry,
                matching=predicate,
            )


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(**{**row._asdict(), "hash": bytes(row.hash)})
