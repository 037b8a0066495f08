"""Counts the events that webhooks still have to get, in SQL."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, case, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.events import OF_PAGES, PAGE, EventType, Offset
from campaign_service.campaigns.webhooks import Backlog, Webhook
from campaign_service.storage.event_log import ENTRY_COLUMNS, entry_from_row
from campaign_service.storage.event_tables import event_log, webhook_lanes
from chat_store.database.columns import Count
from chat_store.database.engine import Database, DialectName

_log = event_log.c
_lanes = webhook_lanes.c
_NOTHING: ColumnElement[int] = literal(0, Count)

# the entries of a lane, and those of which only a part belongs to it
_OF_LANE = and_(
    _log.campaign_id == _lanes.campaign_id,
    _log.position >= _lanes.position,
    or_(
        _log.position < _lanes.end_position,
        and_(_log.position == _lanes.end_position, _lanes.end_number > 0),
    ),
    ~_log.skip_webhook,
)
_IS_PART = or_(
    and_(_log.position == _lanes.position, _lanes.number > 0),
    and_(_log.position == _lanes.end_position, _lanes.end_number > 0),
)


async def backlogs(database: Database, given: Collection[Webhook]) -> Mapping[str, Backlog]:
    """Returns the backlog of each webhook, by its id."""
    async with database.snapshot() as connection:
        return {
            webhook.id: await _backlog(connection, database.dialect, webhook) for webhook in given
        }


async def count_events(
    connection: AsyncConnection,
    dialect: DialectName,
    types: Collection[str],
    *,
    of_entries: ColumnElement[bool],
) -> int:
    """Counts the events of the types, or of any, in the entries."""
    found = await connection.scalar(_count(events_in(types, dialect)).where(of_entries))
    return int(found or 0)


def events_in(types: Collection[str], dialect: DialectName) -> ColumnElement[int]:
    """Returns the SQL of the number of an entry's events of the types, or of any."""
    length = func.json_array_length if dialect == "sqlite" else func.jsonb_array_length
    counts: Mapping[EventType, ColumnElement[int]] = {
        EventType.CHANNEL_CREATED: _log.channels,
        EventType.MEMBER_ADDED: length(_log.joined, type_=Count),
        EventType.CHANNEL_VISIBLE: length(_log.shown, type_=Count),
        EventType.MESSAGE_NEW: _log.messages,
    }
    of_page = _NOTHING
    for type_ in OF_PAGES:
        if not types or type_ in types:
            of_page = of_page + counts[type_]
    single = _log.type != PAGE
    if types:
        single = and_(single, _log.type.in_(list(types)))
    return case((_log.type == PAGE, of_page), (single, 1), else_=0)


async def _backlog(connection: AsyncConnection, dialect: DialectName, webhook: Webhook) -> Backlog:
    events = events_in(webhook.event_types, dialect)
    of_webhook = and_(_lanes.webhook_id == webhook.id, _lanes.replay_id == "")
    whole = _count(events).join(webhook_lanes, _OF_LANE).where(of_webhook, ~_IS_PART)
    counted = [await _counted(connection, whole)]
    parts = _parts().where(of_webhook, _IS_PART)
    counted += _counted_in(await connection.execute(parts), webhook.event_types)
    # there are few lanes of replays, each with types of its own
    replays = _parts().where(_lanes.webhook_id == webhook.id, _lanes.replay_id != "")
    counted += _counted_in(await connection.execute(replays), webhook.event_types)
    if webhook.enabled:
        new = or_(_log.position >= webhook.position, _log.position.is_(None))
        counted.append(await _counted(connection, _count(events).where(new, ~_log.skip_webhook)))
    return Backlog(
        sum(backlog.events for backlog in counted),
        min((b.oldest_at for b in counted if b.events and b.oldest_at), default=None),
    )


def _count(events: ColumnElement[int]) -> Select[Any]:
    totals: list[ColumnElement[Any]] = [func.sum(events), func.min(_log.created_at)]
    return select(*totals).select_from(event_log).where(events > 0)


def _parts() -> Select[Any]:
    offsets = (_lanes.position, _lanes.number, _lanes.end_position, _lanes.end_number)
    return select(
        *ENTRY_COLUMNS,
        *(column.label(f"lane_{column.name}") for column in offsets),
        _lanes.types.label("lane_types"),
        _lanes.not_before,
        _lanes.not_after,
    ).join_from(webhook_lanes, event_log, _OF_LANE)


async def _counted(connection: AsyncConnection, statement: Select[Any]) -> Backlog:
    count, oldest = (await connection.execute(statement)).one()
    return Backlog(int(count or 0), oldest)


def _counted_in(rows: Iterable[Row[Any]], types: Sequence[str]) -> list[Backlog]:
    counted = []
    names = [column.name for column in ENTRY_COLUMNS]
    for row in rows:
        values = row._asdict()
        entry = entry_from_row({name: values[name] for name in names})
        start = Offset(row.lane_position, row.lane_number)
        end = Offset(row.lane_end_position, row.lane_end_number)
        if not _is_between(entry.created_at, row.not_before, row.not_after):
            continue
        wanted = types if row.lane_types is None else row.lane_types
        count = sum(start <= ref.offset < end for ref in entry.events(wanted))
        counted.append(Backlog(count, entry.created_at))
    return counted


def _is_between(moment: datetime, first: datetime | None, last: datetime | None) -> bool:
    return (first is None or moment >= first) and (last is None or moment < last)
