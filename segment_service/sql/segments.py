"""Segments in SQL, and the targets of those that list them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Delete, Row, and_, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningUpdate

from chat_store.audit.callers import current_principal_id
from chat_store.audit.entries import AuditedChange
from chat_store.audit.recording import record
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.bulk.prepared import prepared_once
from chat_store.database.bulk.row_sources import inline_rows
from chat_store.database.coalescing import MAX_SMALL, Coalescer
from chat_store.database.columns import Key
from chat_store.database.engine import Database, DialectName
from chat_store.filters.parsing import json_size
from chat_store.filters.predicates import Predicate
from chat_store.paging import Page, PageRequest
from chat_store.sql.audience_versions import add_version, raise_version, remove_version
from chat_store.sql.filters import Binding
from chat_store.sql.paging import fetch_page
from chat_store.worker_thread import SHORT_BYTES, aside_if
from segment_service.errors import (
    SegmentAlreadyExistsError,
    SegmentDeletedError,
    SegmentNotFoundError,
)
from segment_service.segments import (
    Change,
    Definition,
    Segment,
    SegmentSpec,
    SegmentType,
    changed,
    check,
    check_listing,
    check_targets,
    is_same,
    later,
    same_filter,
)
from segment_service.sql.tables import segment_targets, segments

_BINDING = Binding(columns=dict(segments.c))
_COUNTED = {Definition.FILTER, Definition.ALL_USERS}
# built once: the most frequent query
_BY_ID = select(segments).where(segments.c.id == bindparam("id", type_=Key))
_TAKEN_BY_ID = _BY_ID.with_for_update()
_IS_A_LIST = and_(
    segments.c.deleted_at.is_(None),
    segments.c.filter.is_(None),
    ~segments.c.all_users,
    ~segments.c.all_sender_channels,
)


@dataclass(frozen=True, slots=True)
class _Addition:
    segment_id: str
    target_ids: Sequence[str]
    now: datetime
    change: AuditedChange


class SqlSegmentStore:
    """See `segment_service.store.SegmentStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._additions = Coalescer(
            self._added,
            scope_of=lambda addition: addition.segment_id,
            keys_of=lambda addition: addition.target_ids,
        )

    async def create(self, segment_id: str, spec: SegmentSpec, now: datetime) -> Segment:
        constants = {
            **_values(spec),
            "size": 0,
            "count_due_at": now if spec.definition in _COUNTED else None,
            "created_at": now,
            "created_by": current_principal_id(),
            "updated_at": now,
            "updated_by": current_principal_id(),
        }
        insert = insert_rows(
            self._database.dialect, segments, {"id": [segment_id]}, constants=constants
        )
        async with self._database.transaction("segment.create") as connection:
            if (await connection.execute(*insert)).rowcount:
                await add_version(connection, self._database.dialect, segment_id)
                await record(connection, AuditedChange(f"segments/{segment_id}"))
            segment = await _load(connection, segment_id)
        if segment.deleted_at or not is_same(segment.spec, spec):
            raise SegmentAlreadyExistsError(segment_id)
        return segment

    async def get(self, segment_id: str) -> Segment:
        async with self._database.autocommit() as connection:
            return await _load(connection, segment_id)

    async def update(self, segment_id: str, change: Change, now: datetime) -> Segment:
        await self._check_filter(segment_id, change)
        async with self._database.transaction("segment.update") as connection:
            stored = await _take(connection, segment_id)
            if stored.deleted_at:
                raise SegmentDeletedError(segment_id)
            spec = changed(stored.spec, change)
            if is_same(spec, stored.spec):
                return stored
            values = {
                **_values(spec),
                "updated_at": later(now, stored.updated_at),
                "updated_by": current_principal_id(),
            }
            if not same_filter(spec, stored.spec):
                values["count_due_at"] = now
            await record(connection, AuditedChange(f"segments/{segment_id}"))
            return await _one(
                connection,
                segment_id,
                update(segments)
                .where(segments.c.id == segment_id, segments.c.deleted_at.is_(None))
                .values(values)
                .returning(segments),
            )

    async def _check_filter(self, segment_id: str, change: Change) -> None:
        """Checks a new filter before the transaction, because it may take long.

        The check depends on the segment's type, which never changes.
        """
        stored = await self.get(segment_id)
        if stored.deleted_at or change.filter is None:
            return
        spec = changed(stored.spec, change)
        await aside_if(json_size(change.filter) > SHORT_BYTES, partial(check, spec))

    async def delete(self, segment_id: str, now: datetime) -> None:
        async with self._database.transaction("segment.delete") as connection:
            stored = await _take(connection, segment_id)
            moment = later(now, stored.updated_at)
            deleted = await connection.execute(
                update(segments)
                .where(segments.c.id == segment_id, segments.c.deleted_at.is_(None))
                .values(
                    deleted_at=moment,
                    updated_at=moment,
                    updated_by=current_principal_id(),
                    count_due_at=None,
                )
            )
            await remove_version(connection, segment_id)
            if deleted.rowcount:
                await record(connection, AuditedChange(f"segments/{segment_id}"))

    async def query(
        self, predicate: Predicate, page: PageRequest, *, show_deleted: bool
    ) -> Page[Segment]:
        statement = select(segments)
        if not show_deleted:
            statement = statement.where(segments.c.deleted_at.is_(None))
        async with self._database.autocommit() as connection:
            return await fetch_page(
                connection,
                statement,
                page,
                _BINDING,
                self._database.dialect,
                segment_from_row,
                matching=predicate,
            )

    async def add_targets(
        self, segment_id: str, target_ids: Sequence[str], now: datetime
    ) -> tuple[int, Segment]:
        # with its change, because a group is written for several callers
        addition = _Addition(segment_id, target_ids, now, AuditedChange(f"segments/{segment_id}"))
        if len(target_ids) > MAX_SMALL:
            (added,) = await self._added([addition])
            return added
        return await self._additions.submit(addition)

    async def _added(self, additions: Sequence[_Addition]) -> list[tuple[int, Segment]]:
        """Adds the targets of calls that share a segment and have no target in common."""
        segment_id, now = additions[0].segment_id, max(addition.now for addition in additions)
        target_ids = sorted({id_ for addition in additions for id_ in addition.target_ids})
        async with self._database.transaction("targets.add") as connection:
            stored = await _take(connection, segment_id)
            check_listing(stored)
            for addition in additions:
                check_targets(stored, addition.target_ids)
            insert = insert_rows(
                self._database.dialect,
                segment_targets,
                {"target_id": target_ids},
                constants={"segment_id": segment_id, "created_at": now},
                returning=["target_id"],
            )
            new = set(await connection.scalars(*insert))
            segment = await _resize(connection, stored, len(new), now)
            added = [len(new.intersection(addition.target_ids)) for addition in additions]
            of_calls = zip(additions, added, strict=True)
            await record(connection, *(addition.change for addition, count in of_calls if count))
        return [(count, segment) for count in added]

    async def remove_targets(
        self, segment_id: str, target_ids: Sequence[str], now: datetime
    ) -> tuple[int, Segment]:
        async with self._database.transaction("targets.remove") as connection:
            stored = await _take(connection, segment_id)
            check_listing(stored)
            removal = _removal(self._database.dialect, segment_id, target_ids)
            removed = (await connection.execute(removal)).rowcount
            if removed:
                await record(connection, AuditedChange(f"segments/{segment_id}"))
            return removed, await _resize(connection, stored, -removed, now)


async def load_segments(
    connection: AsyncConnection, dialect: DialectName, ids: Sequence[str]
) -> Mapping[str, Segment]:
    """Returns the segments that exist, deleted ones included, by id."""
    given = inline_rows(dialect, {"id": Key}, {"id": list(ids)})
    statement = select(segments).join_from(given.source, segments, segments.c.id == given.c["id"])
    found = [segment_from_row(row) for row in await connection.execute(statement)]
    return {segment.id: segment for segment in found}


def segment_from_row(row: Row[Any]) -> Segment:
    if row.filter is not None:
        definition = Definition.FILTER
    elif row.all_users:
        definition = Definition.ALL_USERS
    elif row.all_sender_channels:
        definition = Definition.ALL_SENDER_CHANNELS
    else:
        definition = Definition.LIST
    return Segment(
        id=row.id,
        spec=SegmentSpec(
            type=SegmentType(row.type),
            name=row.name,
            description=row.description,
            definition=definition,
            filter=row.filter,
        ),
        size=row.size,
        size_updated_at=row.size_updated_at,
        created_at=row.created_at,
        created_by=row.created_by,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
        deleted_at=row.deleted_at,
    )


def _values(spec: SegmentSpec) -> dict[str, Any]:
    return {
        "type": spec.type,
        "name": spec.name,
        "description": spec.description,
        "filter": spec.filter,
        "all_users": spec.definition is Definition.ALL_USERS,
        "all_sender_channels": spec.definition is Definition.ALL_SENDER_CHANNELS,
    }


async def _load(connection: AsyncConnection, segment_id: str) -> Segment:
    statement = prepared_once(_BY_ID, connection.dialect)
    return _segment(segment_id, await statement.records(connection, {"id": segment_id}))


async def _take(connection: AsyncConnection, segment_id: str) -> Segment:
    """Loads the segment and locks it against other writers until the transaction ends."""
    statement = prepared_once(_TAKEN_BY_ID, connection.dialect)
    return _segment(segment_id, await statement.records(connection, {"id": segment_id}))


async def _resize(
    connection: AsyncConnection, stored: Segment, difference: int, now: datetime
) -> Segment:
    if not difference:
        return stored
    values = {
        "size": segments.c.size + difference,
        "size_updated_at": later(now, stored.size_updated_at),
    }
    await raise_version(connection, stored.id)
    return await _one(
        connection,
        stored.id,
        update(segments)
        .where(segments.c.id == stored.id, _IS_A_LIST)
        .values(values)
        .returning(segments),
    )


def _removal(dialect: DialectName, segment_id: str, target_ids: Sequence[str]) -> Delete:
    given = inline_rows(dialect, {"target_id": Key}, {"target_id": sorted(set(target_ids))})
    return delete(segment_targets).where(
        segment_targets.c.segment_id == segment_id,
        segment_targets.c.target_id.in_(select(given.c["target_id"]).select_from(given.source)),
    )


async def _one(
    connection: AsyncConnection, segment_id: str, statement: ReturningUpdate[Any]
) -> Segment:
    return _segment(segment_id, (await connection.execute(statement)).all())


def _segment(segment_id: str, rows: Sequence[Any]) -> Segment:
    if not rows:
        raise SegmentNotFoundError(segment_id)
    (row,) = rows
    return segment_from_row(row)
