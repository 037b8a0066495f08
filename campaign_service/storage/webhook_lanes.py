"""Lanes of webhooks in SQL: their leases and their progress."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Function,
    Row,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.events import Offset
from campaign_service.campaigns.webhooks import Attempt, Batch, Lane, LaneLostError
from campaign_service.storage.event_tables import webhook_attempts, webhook_lanes, webhooks
from campaign_service.storage.locks import is_held
from campaign_service.storage.traces import trace_of
from campaign_service.storage.webhooks import disable, distribute
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.bulk.row_locks import lock_rows
from chat_store.database.engine import Database
from chat_store.models import Values

_lanes = webhook_lanes.c
_CLAIMS: Function[int] = func.pg_advisory_xact_lock(
    func.hashtextextended(literal("herald-webhook-claims", Text()), 0)
)
_KEY = (_lanes.webhook_id, _lanes.campaign_id, _lanes.replay_id)
_HAS_EVENTS = or_(
    _lanes.position < _lanes.end_position,
    and_(_lanes.position == _lanes.end_position, _lanes.number < _lanes.end_number),
)
_NO_BATCH: Mapping[str, Any] = {
    "batch_position": None,
    "batch_number": None,
    "body": None,
    "event_id": None,
    "event_type": None,
    "events": None,
    "attempts": 0,
    "first_attempt_at": None,
    "next_attempt_at": None,
}


class SqlLaneStore:
    """See `campaign_service.storage.event_ports.LaneStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def distribute(self, end: Offset) -> None:
        behind = select(webhooks.c.id).where(webhooks.c.enabled, webhooks.c.position < end.position)
        async with self._database.autocommit() as connection:
            if (await connection.execute(behind.limit(1))).first() is None:
                return
        async with self._database.transaction("webhook.distribute") as connection:
            await distribute(connection, self._database.dialect, end.position)

    async def claim(
        self, owner: str, now: datetime, until: datetime, *, most: int, most_of_webhook: int
    ) -> Sequence[Lane]:
        due = _due(now)
        async with self._database.autocommit() as connection:
            # this runs often, and must not take SQLite's write lock if no lane is due
            if (await connection.execute(select(_lanes.lease).where(due).limit(1))).first() is None:
                return []
        taken = _lanes.lease_until >= now
        rank = func.row_number().over(
            partition_by=_lanes.webhook_id,
            order_by=[case((taken, 0), else_=1), _lanes.next_attempt_at, *_KEY],
        )
        ranked = (
            select(*_KEY, rank.label("rank"), due.label("due")).where(or_(due, taken)).subquery()
        )
        chosen = (
            select(ranked.c.webhook_id, ranked.c.campaign_id, ranked.c.replay_id)
            .where(ranked.c.due, ranked.c.rank <= most_of_webhook)
            .order_by(ranked.c.rank)
            .limit(most)
            .subquery()
        )
        # locks them in the order of `row_locks`
        in_order = select(chosen).order_by(*chosen.c)
        lanes = []
        async with self._database.transaction("webhook.claim") as connection:
            if self._database.dialect == "postgresql":
                # one sender at a time claims, so that together they keep the limit of each webhook
                await connection.execute(select(_CLAIMS))
            for key in (await connection.execute(in_order)).all():
                lease = f"{owner}:{uuid4()}"
                claimed = (
                    update(webhook_lanes)
                    .where(tuple_(*_KEY) == tuple(key))
                    .values(lease=lease, lease_until=until)
                    .returning(*_lanes)
                )
                # none if its webhook has just been deleted
                if row := (await connection.execute(claimed)).one_or_none():
                    lanes.append(_lane(row))
        return lanes

    async def trace_of(self, campaign_id: str) -> str:
        return await trace_of(self._database, campaign_id)

    async def renew(self, lanes: Collection[Lane], until: datetime) -> None:
        leased = _lanes.lease.in_([lane.lease for lane in lanes])
        async with self._database.transaction("webhook.renew") as connection:
            await lock_rows(connection, webhook_lanes, leased)
            await connection.execute(update(webhook_lanes).where(leased).values(lease_until=until))

    async def begin_batch(self, lane: Lane, end: Offset) -> None:
        await self._change(lane, {"batch_position": end.position, "batch_number": end.number})

    async def advance(self, lane: Lane, offset: Offset, attempts: Sequence[Attempt]) -> None:
        await self._change(lane, _done(offset), attempts)

    async def disable_webhook(
        self, lane: Lane, offset: Offset, attempts: Sequence[Attempt], reason: str, now: datetime
    ) -> None:
        async with self._database.transaction("webhook.disable") as connection:
            # locks the webhook before the lane, as `distribute` does
            await disable(connection, self._database.dialect, lane.webhook_id, reason, now)
            await self._change_in(connection, lane, _done(offset), attempts)

    async def retry(
        self,
        lane: Lane,
        batch: Batch,
        attempt: Attempt,
        first_attempt_at: datetime,
        before: Sequence[Attempt],
    ) -> None:
        values = {
            "position": attempt.start.position,
            "number": attempt.start.number,
            "batch_position": batch.end.position,
            "batch_number": batch.end.number,
            "body": batch.body,
            "event_id": batch.event_id,
            "event_type": batch.event_type,
            "events": batch.events,
            "attempts": attempt.attempt,
            "first_attempt_at": first_attempt_at,
            "next_attempt_at": attempt.next_attempt_at,
            "lease": None,
            "lease_until": None,
        }
        await self._change(lane, values, [*before, attempt])

    async def release(self, lane: Lane) -> None:
        async with self._database.transaction("webhook.release") as connection:
            mine = _is_mine(lane)
            await connection.execute(delete(webhook_lanes).where(mine, ~_HAS_EVENTS))
            await connection.execute(
                update(webhook_lanes).where(mine).values(lease=None, lease_until=None)
            )

    async def _change(
        self, lane: Lane, values: Mapping[str, Any], attempts: Sequence[Attempt] = ()
    ) -> None:
        async with self._database.transaction("webhook.progress") as connection:
            await self._change_in(connection, lane, values, attempts)

    async def _change_in(
        self,
        connection: AsyncConnection,
        lane: Lane,
        values: Mapping[str, Any],
        attempts: Sequence[Attempt],
    ) -> None:
        moved = await connection.execute(
            update(webhook_lanes).where(_is_mine(lane)).values(**values)
        )
        if moved.rowcount != 1:
            raise LaneLostError
        if attempts:
            await self._record(connection, attempts)

    async def _record(self, connection: AsyncConnection, attempts: Sequence[Attempt]) -> None:
        # the attempts that the earlier ones announced have been made
        repeated = [each.event_id for each in attempts if each.attempt > 1]
        if repeated:
            table = webhook_attempts.c
            announced = and_(
                table.webhook_id == attempts[0].webhook_id,
                table.event_id.in_(repeated),
                table.next_attempt_at.is_not(None),
            )
            await lock_rows(connection, webhook_attempts, announced)
            await connection.execute(
                update(webhook_attempts).where(announced).values(next_attempt_at=None)
            )
        rows: Values = {
            "id": [each.id for each in attempts],
            "webhook_id": [each.webhook_id for each in attempts],
            "campaign_id": [each.campaign_id for each in attempts],
            "event_id": [each.event_id for each in attempts],
            "event_type": [str(each.event_type) for each in attempts],
            "events": [each.events for each in attempts],
            "attempt": [each.attempt for each in attempts],
            "attempted_at": [each.attempted_at for each in attempts],
            "response_status": [each.response_status for each in attempts],
            "error": [each.error for each in attempts],
            "outcome": [str(each.outcome) for each in attempts],
            "next_attempt_at": [each.next_attempt_at for each in attempts],
            "position": [each.start.position for each in attempts],
            "number": [each.start.number for each in attempts],
            "end_position": [each.end.position for each in attempts],
            "end_number": [each.end.number for each in attempts],
            "types": [list(each.types) for each in attempts],
        }
        await connection.execute(*insert_rows(self._database.dialect, webhook_attempts, rows))


def _done(offset: Offset) -> Mapping[str, Any]:
    """Returns the values of a lane of which everything before the offset is done."""
    return {"position": offset.position, "number": offset.number, **_NO_BATCH}


def _due(now: datetime) -> ColumnElement[bool]:
    enabled = select(webhooks.c.id).where(webhooks.c.id == _lanes.webhook_id, webhooks.c.enabled)
    return and_(
        or_(_lanes.next_attempt_at.is_(None), _lanes.next_attempt_at <= now),
        or_(_lanes.lease_until.is_(None), _lanes.lease_until < now),
        _HAS_EVENTS,
        enabled.exists(),
        ~is_held(),
    )


def _is_mine(lane: Lane) -> ColumnElement[bool]:
    return and_(
        _lanes.webhook_id == lane.webhook_id,
        _lanes.campaign_id == lane.campaign_id,
        _lanes.replay_id == lane.replay_id,
        _lanes.lease == bindparam("of_lease", lane.lease),
    )


def _lane(row: Row[Any]) -> Lane:
    batch_end = None if row.batch_position is None else Offset(row.batch_position, row.batch_number)
    failed = None
    if batch_end is not None and row.body is not None:
        failed = Batch(
            end=batch_end,
            event_id=row.event_id,
            event_type=row.event_type,
            events=row.events,
            body=row.body,
        )
    return Lane(
        webhook_id=row.webhook_id,
        campaign_id=row.campaign_id,
        replay_id=row.replay_id,
        offset=Offset(row.position, row.number),
        end=Offset(row.end_position, row.end_number),
        types=None if row.types is None else tuple(row.types),
        not_before=row.not_before,
        not_after=row.not_after,
        batch_end=batch_end,
        failed=failed,
        attempts=row.attempts,
        first_attempt_at=row.first_attempt_at,
        lease=row.lease,
    )
