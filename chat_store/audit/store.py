"""The ports of the audit log to the database."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from chat_store.audit.entries import AuditEntry, Refusal
from chat_store.filters.predicates import Predicate
from chat_store.paging import Page, PageRequest


class AuditChain(Protocol):
    """The chain of audit rows, which grows by rows that are committed."""

    async def add_refusals(self, refusals: Sequence[Refusal]) -> None:
        """Writes the rows of refused calls. There is at least one."""

    async def grow(self) -> None:
        """Chains all rows that were committed before this call."""

    async def cut(self, before: datetime) -> bool:
        """Deletes a bounded number of the oldest rows, until the first that is not older.

        Returns whether there may be more to delete.
        """


class AuditLog(Protocol):
    async def query(self, predicate: Predicate, page: PageRequest) -> Page[AuditEntry]:
        """Returns rows, also those that were committed a moment ago."""
