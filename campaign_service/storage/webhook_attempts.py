"""The outcomes of attempts in SQL, and events that are sent again."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, and_, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.events import EventType, Offset
from campaign_service.campaigns.webhooks import (
    Attempt,
    AttemptNotDeadError,
    AttemptNotFoundError,
    AttemptOutcome,
)
from campaign_service.storage.event_log import end_of_log
from campaign_service.storage.event_tables import (
    event_log,
    webhook_attempts,
    webhook_lanes,
    webhook_replays,
    webhooks,
)
from campaign_service.storage.webhook_backlog import count_events, events_in
from campaign_service.storage.webhooks import load_webhook
from chat_store.audit.entries import AuditedChange
from chat_store.audit.recording import record
from chat_store.database.bulk.row_locks import lock_rows
from chat_store.database.bulk.row_sources import inline_rows
from chat_store.database.columns import JsonValue, Key
from chat_store.database.engine import Database
from chat_store.paging import Page, PageRequest
from chat_store.sql.filters import Binding
from chat_store.sql.paging import fetch_page

_BINDING = Binding(columns=dict(webhook_attempts.c))


class SqlAttemptStore:
    """See `campaign_service.storage.event_ports.AttemptStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def query(
        self, webhook_id: str, outcome: AttemptOutcome | None, page: PageRequest
    ) -> Page[Attempt]:
        table = webhook_attempts.c
        statement = select(webhook_attempts).where(table.webhook_id == webhook_id)
        if outcome is not None:
            statement = statement.where(table.outcome == outcome)
        async with self._database.autocommit() as connection:
            return await fetch_page(
                connection, statement, page, _BINDING, self._database.dialect, _attempt
            )

    async def redeliver(self, attempt_id: str, now: datetime) -> Attempt:
        of_id = webhook_attempts.c.id == attempt_id
        async with self._database.transaction("webhook.redeliver") as connection:
            attempt = await _locked(connection, attempt_id)
            if attempt.outcome is not AttemptOutcome.DEAD:
                raise AttemptNotDeadError(attempt_id, attempt.outcome)
            await connection.execute(
                update(webhook_attempts)
                .where(of_id)
                .values(outcome=AttemptOutcome.RETRYING, next_attempt_at=now)
            )
            await connection.execute(
                insert(webhook_lanes).values(
                    webhook_id=attempt.webhook_id,
                    campaign_id=attempt.campaign_id,
                    replay_id=attempt_id,
                    position=attempt.start.position,
                    number=attempt.start.number,
                    end_position=attempt.end.position,
                    end_number=attempt.end.number,
                    batch_position=attempt.end.position,
                    batch_number=attempt.end.number,
                    types=list(attempt.types),
                    attempts=attempt.attempt,
                )
            )
            await record(
                connection, AuditedChange(f"webhooks/{attempt.webhook_id}/attempts/{attempt_id}")
            )
            again = await connection.execute(select(webhook_attempts).where(of_id))
            return _attempt(again.one())

    async def replay(
        self,
        webhook_id: str,
        types: Collection[EventType],
        not_before: datetime | None,
        not_after: datetime | None,
        request_id: str,
        now: datetime,
    ) -> int:
        replays = webhook_replays.c
        repeated = select(replays.events).where(
            replays.webhook_id == webhook_id, replays.request_id == request_id
        )
        log = event_log.c
        async with self._database.transaction("webhook.replay") as connection:
            webhook = await load_webhook(connection, webhook_id, lock=True)
            if request_id and (answered := await connection.scalar(repeated)) is not None:
                return int(answered)
            own = set(webhook.event_types or EventType)
            wanted = sorted(own & set(types or EventType))
            end = await end_of_log(connection)
            chosen = and_(log.position < end.position, ~log.skip_webhook)
            if not_before is not None:
                chosen = and_(chosen, log.created_at >= not_before)
            if not_after is not None:
                chosen = and_(chosen, log.created_at < not_after)
            dialect = self._database.dialect
            events = await count_events(connection, dialect, wanted or [""], of_entries=chosen)
            times = webhook_lanes.c.not_before.type
            rows = (
                select(
                    literal(webhook_id),
                    log.campaign_id,
                    literal(request_id or str(uuid4())),
                    func.min(log.position),
                    literal(0),
                    func.max(log.position) + 1,
                    literal(0),
                    literal(0),
                    literal(wanted, JsonValue),
                    literal(not_before, times),
                    literal(not_after, times),
                )
                .where(chosen, events_in(wanted or [""], dialect) > 0)
                .group_by(log.campaign_id)
            )
            names = (
                "webhook_id campaign_id replay_id position number end_position end_number attempts "
                "types not_before not_after"
            )
            await connection.execute(insert(webhook_lanes).from_select(names.split(), rows))
            if request_id:
                await connection.execute(
                    insert(webhook_replays).values(
                        webhook_id=webhook_id,
                        request_id=request_id,
                        events=events,
                        created_at=now,
                    )
                )
            await record(connection, AuditedChange(f"webhooks/{webhook_id}"))
            return events

    async def forget(self, before: datetime, most: int) -> int:
        table = webhook_attempts.c
        old = select(table.id).where(table.attempted_at < before).limit(most)
        async with self._database.transaction("webhook.forget") as connection:
            ids = (await connection.scalars(old)).all()
            given = inline_rows(self._database.dialect, {"id": Key}, {"id": ids})
            chosen = table.id.in_(select(given.c["id"]).select_from(given.source))
            await lock_rows(connection, webhook_attempts, chosen)
            gone = await connection.execute(delete(webhook_attempts).where(chosen))
            forgotten = webhook_replays.c.created_at < before
            await lock_rows(connection, webhook_replays, forgotten)
            await connection.execute(delete(webhook_replays).where(forgotten))
            return gone.rowcount


async def _locked(connection: AsyncConnection, attempt_id: str) -> Attempt:
    """Locks the webhook first, or one that is just being deleted would leave the new lane behind."""
    of_id = webhook_attempts.c.id == attempt_id
    webhook_id = select(webhook_attempts.c.webhook_id).where(of_id).scalar_subquery()
    await connection.execute(
        select(webhooks.c.id).where(webhooks.c.id == webhook_id).with_for_update()
    )
    found = await connection.execute(select(webhook_attempts).where(of_id).with_for_update())
    row = found.one_or_none()
    if row is None:
        raise AttemptNotFoundError(attempt_id)
    return _attempt(row)


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        id=row.id,
        webhook_id=row.webhook_id,
        campaign_id=row.campaign_id,
        event_id=row.event_id,
        event_type=row.event_type,
        events=row.events,
        attempt=row.attempt,
        attempted_at=row.attempted_at,
        response_status=row.response_status,
        error=row.error,
        outcome=AttemptOutcome(row.outcome),
        next_attempt_at=row.next_attempt_at,
        start=Offset(row.position, row.number),
        end=Offset(row.end_position, row.end_number),
        types=tuple(row.types or ()),
    )
