"""Which of given targets are in segments, in SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, literal_column, select

from chat_store.database import Database, DialectName
from chat_store.statements.recordsets import among_keys, keys
from segment_service.segments import Segment
from segment_service.sql.branches import branches, union_of
from segment_service.sql.kept_statements import KeptStatements


@dataclass(frozen=True, slots=True)
class GivenTargets:
    """Whom the question is put to; the targets are the statement's parameter."""

    segment_ids: tuple[str, ...]
    sender_id: str


class SqlGivenTargets:
    """See `segment_service.store.TargetStore.among`."""

    def __init__(self, database: Database) -> None:
        self._dialect = database.dialect
        self._statements = KeptStatements(database, those_among)

    async def among(self, asked: GivenTargets, target_ids: Sequence[str]) -> Sequence[str]:
        return await self._statements.ids(asked, keys(self._dialect, target_ids))


def those_among(asked: GivenTargets, of: Sequence[Segment], dialect: DialectName) -> Select[Any]:
    """Each branch looks up the given ids by its index, so that none reads the whole of a table."""
    found = [
        branch.rows.where(among_keys(dialect, branch.column))
        for branch in branches(of, asked.sender_id, dialect)
    ]
    together = (found[0] if len(found) == 1 else union_of(found)).subquery()
    return select(together.c[0]).order_by(literal_column("1"))
