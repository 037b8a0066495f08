"""The log of events in SQL: positions, entries, and deletion by age."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Select,
    Update,
    bindparam,
    delete,
    func,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.events import OF_PAGES, PAGE, LogEntry, Offset
from campaign_service.campaigns.model import Campaign
from campaign_service.storage.event_ports import LogEnds
from campaign_service.storage.event_tables import event_log, event_log_ends
from campaign_service.storage.locks import is_held
from campaign_service.storage.rows import campaign_from_row
from campaign_service.storage.tables import campaign_changes
from chat_store.database.bulk.inserts import insert_from
from chat_store.database.bulk.row_sources import Types, row_parameters, row_source
from chat_store.database.columns import Count, Key
from chat_store.database.engine import Database, DialectName
from chat_store.models import Values

# entries that get their positions in one transaction
_MOST_AT_ONCE = 1_000
_REVISIONS: Types = {"id": Key, "revision": campaign_changes.c.revision.type}
_NAMES = (
    "campaign_id revision position type created_at messages channels content joined shown".split()
)
ENTRY_COLUMNS = [event_log.c[name] for name in _NAMES]
_ENDS = [column.name for column in event_log_ends.columns]
_KEY = list(event_log.primary_key.columns)


class SqlEventLog:
    """See `campaign_service.storage.event_ports.EventLog`.

    Entries are committed without a position. The next reader of the log assigns it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ends(self) -> LogEnds:
        async with self._database.autocommit() as connection:
            found = (await connection.execute(_ends_and_news())).one()
        if found.unnumbered:
            while await self._give_positions() == _MOST_AT_ONCE:
                pass
            async with self._database.autocommit() as connection:
                found = (await connection.execute(_ends_and_news())).one()
        return LogEnds(Offset(found.first_position), Offset(found.next_position), found.held)

    async def entries(
        self,
        start: Offset,
        end: Offset,
        limit: int,
        *,
        types: Collection[str] = (),
        campaign_id: str | None = None,
        pushed: bool = False,
    ) -> Sequence[LogEntry]:
        columns = event_log.c
        is_muted = columns.skip_push if pushed else columns.skip_webhook
        statement = (
            select(*ENTRY_COLUMNS)
            .where(columns.position >= start.position, _is_before(end), ~is_muted)
            .order_by(columns.position)
            .limit(limit)
        )
        if types:
            statement = statement.where(_has_any(types))
        if campaign_id is not None:
            statement = statement.where(columns.campaign_id == campaign_id)
        async with self._database.autocommit() as connection:
            rows = await connection.execute(statement)
            return [entry_from_row(row._asdict()) for row in rows]

    async def revisions(
        self, wanted: Collection[tuple[str, int]]
    ) -> Mapping[tuple[str, int], Campaign]:
        dialect = self._database.dialect
        given = row_source(dialect, _REVISIONS)
        changes = campaign_changes.c
        statement = select(campaign_changes).join_from(
            given.source,
            campaign_changes,
            (changes.id == given.c["id"]) & (changes.revision == given.c["revision"]),
        )
        values: Values = {
            "id": [id_ for id_, _ in wanted],
            "revision": [number for _, number in wanted],
        }
        async with self._database.autocommit() as connection:
            rows = await connection.execute(statement, row_parameters(dialect, _REVISIONS, values))
            found = [campaign_from_row(row, ()) for row in rows]
        return {(campaign.id, campaign.revision): campaign for campaign in found}

    async def forget(self, before: datetime, most: int) -> int:
        columns = event_log.c
        young = select(func.min(columns.position)).where(
            columns.position.is_not(None), columns.created_at >= before
        )
        async with self._database.transaction("events.forget") as connection:
            ends = await _lock_ends(connection)
            first_young = await connection.scalar(young)
            last = ends.next_position if first_young is None else first_young
            until = min(last, ends.first_position + most)
            if until <= ends.first_position:
                return 0
            gone = await connection.execute(delete(event_log).where(columns.position < until))
            await connection.execute(update(event_log_ends).values(first_position=until))
            return gone.rowcount

    async def _give_positions(self) -> int:
        async with self._database.transaction("events.positions") as connection:
            return await give_positions(connection)


def entry_from_row(values: Mapping[str, Any]) -> LogEntry:
    """Builds an entry from the values of `ENTRY_COLUMNS`."""
    return LogEntry(**values)


async def give_positions(connection: AsyncConnection) -> int:
    """Assigns positions to up to 1,000 committed entries, and returns their number.

    Locks the row with the ends until the commit, so that positions are committed in order and
    without gaps.
    """
    ends = await _lock_ends(connection)
    given = await connection.execute(_give(), {"next": ends.next_position})
    if given.rowcount:
        await connection.execute(
            update(event_log_ends).values(next_position=ends.next_position + given.rowcount)
        )
    return given.rowcount


async def end_of_log(connection: AsyncConnection) -> Offset:
    """Returns the offset after all committed entries. Locks out other assignments until the commit."""
    while await give_positions(connection) == _MOST_AT_ONCE:
        pass
    return Offset((await _lock_ends(connection)).next_position)


async def _lock_ends(connection: AsyncConnection) -> Any:
    # on SQLite a transaction has the only write lock anyway
    locked = select(event_log_ends).with_for_update()
    found = (await connection.execute(locked)).one_or_none()
    if found is None:
        empty = select(literal(1), literal(1), literal(1)).where(text("true"))
        dialect = cast("DialectName", connection.dialect.name)
        await connection.execute(
            insert_from(dialect, event_log_ends, _ENDS, cast("Select[Any]", empty))
        )
        found = (await connection.execute(locked)).one()
    return found


def _is_before(end: Offset) -> ColumnElement[bool]:
    last = end.position if end.number else end.position - 1
    return event_log.c.position <= last


def _has_any(types: Collection[str]) -> ColumnElement[bool]:
    kinds = set(types) - set(OF_PAGES)
    if not kinds.issuperset(types):
        kinds.add(PAGE)
    return event_log.c.type.in_(sorted(kinds))


@cache
def _ends_and_news() -> Select[Any]:
    unnumbered = select(event_log.c.type).where(event_log.c.position.is_(None)).exists()
    ends = (
        # there is no row before the first position is given
        func.coalesce(select(column).scalar_subquery(), 1).label(column.name)
        for column in (event_log_ends.c.first_position, event_log_ends.c.next_position)
    )
    return select(*ends, unnumbered.label("unnumbered"), is_held().label("held"))


@cache
def _give() -> Update:
    """Assigns positions to the entries without one, in the order of each campaign."""
    unnumbered = (
        select(*_KEY, func.row_number().over(order_by=_KEY).label("row"))
        .where(event_log.c.position.is_(None))
        .order_by(*_KEY)
        .limit(_MOST_AT_ONCE)
        .subquery("unnumbered")
    )
    is_it = [column == unnumbered.c[column.name] for column in _KEY]
    first = bindparam("next", type_=Count)
    return update(event_log).where(*is_it).values(position=first + unnumbered.c.row - 1)
