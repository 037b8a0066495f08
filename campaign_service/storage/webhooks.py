"""Webhooks in SQL, and the distribution of events to their lanes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, and_, delete, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.events import EventType, pack_details
from campaign_service.campaigns.webhooks import Backlog, Webhook, WebhookNotFoundError
from campaign_service.storage.event_entries import REVISION_SHARD
from campaign_service.storage.event_log import end_of_log
from campaign_service.storage.event_tables import (
    event_log,
    webhook_attempts,
    webhook_lanes,
    webhook_replays,
    webhooks,
)
from campaign_service.storage.webhook_backlog import backlogs
from chat_store.audit.callers import current_principal_id
from chat_store.audit.entries import AuditedChange
from chat_store.audit.recording import record
from chat_store.database.bulk.inserts import insert_from, insert_rows
from chat_store.database.bulk.row_locks import lock_rows
from chat_store.database.engine import Database, DialectName
from chat_store.paging import Page, PageRequest
from chat_store.sql.filters import Binding
from chat_store.sql.paging import fetch_page

_BINDING = Binding(columns=dict(webhooks.c))
_MILLISECOND = timedelta(milliseconds=1)


class SqlWebhookStore:
    """See `campaign_service.storage.event_ports.WebhookStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, webhook: Webhook, now: datetime) -> Webhook:
        values = {
            "position": 0,
            "created_at": now,
            "created_by": current_principal_id(),
            "updated_at": now,
            "updated_by": current_principal_id(),
            **_columns(webhook),
        }
        insert = insert_rows(
            self._database.dialect,
            webhooks,
            {"id": [webhook.id]},
            constants={name: value for name, value in values.items() if value is not None},
        )
        async with self._database.transaction("webhook.create") as connection:
            if (await connection.execute(*insert)).rowcount == 1:
                await _begin_at_end(connection, webhook.id)
                await record(connection, AuditedChange(f"webhooks/{webhook.id}"))
            return await load_webhook(connection, webhook.id)

    async def get(self, webhook_id: str) -> Webhook:
        async with self._database.autocommit() as connection:
            return await load_webhook(connection, webhook_id)

    async def all(self) -> Sequence[Webhook]:
        async with self._database.autocommit() as connection:
            return [_webhook(row) for row in await connection.execute(select(webhooks))]

    async def query(self, page: PageRequest) -> Page[Webhook]:
        async with self._database.autocommit() as connection:
            return await fetch_page(
                connection, select(webhooks), page, _BINDING, self._database.dialect, _webhook
            )

    async def update(
        self, webhook_id: str, change: Callable[[Webhook], Webhook], now: datetime
    ) -> Webhook:
        async with self._database.transaction("webhook.update") as connection:
            stored = await load_webhook(connection, webhook_id, lock=True)
            principal_id = current_principal_id()
            changed = replace(change(stored), updated_at=now, updated_by=principal_id)
            if stored.enabled and not changed.enabled:
                # events until now are sent when it is enabled again
                end = (await end_of_log(connection)).position
                await distribute(connection, self._database.dialect, end, webhook_id)
            await connection.execute(
                update(webhooks)
                .where(webhooks.c.id == webhook_id)
                .values(updated_at=now, updated_by=principal_id, **_columns(changed))
            )
            await record(connection, AuditedChange(f"webhooks/{webhook_id}"))
            if changed.enabled and not stored.enabled:
                await _begin_at_end(connection, webhook_id)
        return changed

    async def delete(self, webhook_id: str, now: datetime) -> bool:
        async with self._database.transaction("webhook.delete") as connection:
            await load_webhook(connection, webhook_id, lock=True)
            lanes = webhook_lanes.c.webhook_id == webhook_id
            await lock_rows(connection, webhook_lanes, lanes)
            # under the lock, so that none is claimed unnoticed
            is_busy = (await connection.execute(_leased(webhook_id, now))).first() is not None
            await connection.execute(delete(webhook_lanes).where(lanes))
            for table in (webhook_attempts, webhook_replays):
                rows = table.c.webhook_id == webhook_id
                await lock_rows(connection, table, rows)
                await connection.execute(delete(table).where(rows))
            await connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))
            await record(connection, AuditedChange(f"webhooks/{webhook_id}"))
        return is_busy

    async def is_being_sent_to(self, webhook_id: str, now: datetime) -> bool:
        async with self._database.autocommit() as connection:
            return (await connection.execute(_leased(webhook_id, now))).first() is not None

    async def backlogs(self, given: Collection[Webhook]) -> Mapping[str, Backlog]:
        return await backlogs(self._database, given)


async def distribute(
    connection: AsyncConnection, dialect: DialectName, end: int, webhook_id: str | None = None
) -> None:
    """Adds the events before `end` in the log to the lanes of enabled webhooks."""
    behind = and_(webhooks.c.enabled, webhooks.c.position < end)
    if webhook_id is not None:
        behind = and_(behind, webhooks.c.id == webhook_id)
    locked = select(webhooks.c.id).where(behind).order_by(webhooks.c.id).with_for_update()
    if not (await connection.execute(locked)).all():
        return
    log = event_log.c
    new = (
        select(
            webhooks.c.id.label("webhook_id"),
            log.campaign_id.label("campaign_id"),
            literal("").label("replay_id"),
            func.min(log.position).label("position"),
            literal(0).label("number"),
            (func.max(log.position) + 1).label("end_position"),
            literal(0).label("end_number"),
            literal(0).label("attempts"),
        )
        .join_from(
            webhooks, event_log, and_(log.position >= webhooks.c.position, log.position < end)
        )
        .where(behind, ~log.skip_webhook)
        .group_by(webhooks.c.id, log.campaign_id)
        # locks the lanes in the order of `row_locks`
        .order_by(webhooks.c.id, log.campaign_id)
    )
    names = [str(column.key) for column in new.selected_columns]
    await connection.execute(
        insert_from(dialect, webhook_lanes, names, new, replace=["end_position", "end_number"])
    )
    await connection.execute(update(webhooks).where(behind).values(position=end))


async def disable(
    connection: AsyncConnection, dialect: DialectName, webhook_id: str, reason: str, now: datetime
) -> None:
    """Disables the webhook and records the event. No effect on a disabled or deleted one."""
    try:
        stored = await load_webhook(connection, webhook_id, lock=True)
    except WebhookNotFoundError:
        return
    if not stored.enabled:
        return
    end = (await end_of_log(connection)).position
    await distribute(connection, dialect, end, webhook_id)
    await connection.execute(
        update(webhooks)
        .where(webhooks.c.id == webhook_id)
        .values(enabled=False, disabled_reason=reason, updated_at=now)
    )
    # under the lock of the log's end, so that each number is given once
    last = select(func.coalesce(func.max(event_log.c.revision), 0)).where(
        event_log.c.campaign_id == ""
    )
    entry = {
        "campaign_id": "",
        "revision": int(await connection.scalar(last) or 0) + 1,
        "shard": REVISION_SHARD,
        "page": 0,
        "type": EventType.WEBHOOK_DISABLED,
        "created_at": now,
        "skip_webhook": False,
        "skip_push": True,
        "messages": 0,
        "channels": 0,
        "content": pack_details({"id": stored.id, "url": stored.url, "disabled_reason": reason}),
        "joined": [],
        "shown": [],
    }
    await connection.execute(event_log.insert().values(**entry))


async def _begin_at_end(connection: AsyncConnection, webhook_id: str) -> None:
    """Lets the webhook begin with the next event."""
    end = await end_of_log(connection)
    await connection.execute(
        update(webhooks).where(webhooks.c.id == webhook_id).values(position=end.position)
    )


async def load_webhook(
    connection: AsyncConnection, webhook_id: str, *, lock: bool = False
) -> Webhook:
    statement = select(webhooks).where(webhooks.c.id == webhook_id)
    found = await connection.execute(statement.with_for_update() if lock else statement)
    row = found.one_or_none()
    if row is None:
        raise WebhookNotFoundError(webhook_id)
    return _webhook(row)


def _leased(webhook_id: str, now: datetime) -> Select[str]:
    lanes = webhook_lanes.c
    statement = select(lanes.lease).where(lanes.webhook_id == webhook_id, lanes.lease_until > now)
    return statement.limit(1)


def _columns(webhook: Webhook) -> dict[str, Any]:
    return {
        "url": webhook.url,
        "event_types": list(webhook.event_types),
        "secret": webhook.secret,
        "previous_secret": webhook.previous_secret,
        "previous_secret_until": webhook.previous_secret_until,
        "enabled": webhook.enabled,
        "disabled_reason": webhook.disabled_reason,
        "timeout_ms": webhook.timeout // _MILLISECOND,
        "max_batch_events": webhook.max_batch_events,
    }


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(
        id=row.id,
        url=row.url,
        event_types=tuple(map(EventType, row.event_types)),
        secret=row.secret,
        previous_secret=row.previous_secret,
        previous_secret_until=row.previous_secret_until,
        enabled=row.enabled,
        disabled_reason=row.disabled_reason,
        timeout=row.timeout_ms * _MILLISECOND,
        max_batch_events=row.max_batch_events,
        position=row.position,
        created_at=row.created_at,
        created_by=row.created_by,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )
