"""Tests given targets for membership in segments, in SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, literal_column, select

from chat_store.database.bulk.arrays import array_from, array_of
from chat_store.database.bulk.row_sources import in_keys, key_parameters
from chat_store.database.engine import Database, DialectName
from segment_service.segments import Segment
from segment_service.sql.kept_statements import Asked, KeptStatements
from segment_service.sql.target_sources import target_sources, union_of


@dataclass(frozen=True, slots=True)
class GivenTargets(Asked):
    """A query for those of given targets that are in the segments; the targets are a parameter."""


class SqlGivenTargets:
    """See `segment_service.store.TargetStore.among`."""

    def __init__(self, database: Database, statements: KeptStatements) -> None:
        self._dialect = database.dialect
        self._statements = statements

    async def among(self, asked: GivenTargets, target_ids: Sequence[str]) -> Sequence[str]:
        build = partial(those_among, asked, self._dialect)
        given = key_parameters(self._dialect, target_ids)
        return array_from(await self._statements.value(asked, build, **given))


def those_among(
    asked: GivenTargets, dialect: DialectName, of: Sequence[Segment]
) -> ColumnElement[Any]:
    """Looks up the given ids in each source by its index, so that no table is read whole."""
    found = [
        branch.rows.where(in_keys(dialect, branch.column))
        for branch in target_sources(of, asked.sender_id, dialect)
    ]
    together = (found[0] if len(found) == 1 else union_of(found)).subquery()
    ids = select(together.c[0]).order_by(literal_column("1")).subquery()
    return select(array_of(ids.c[0], dialect)).scalar_subquery()
