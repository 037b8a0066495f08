"""The transitions and changes of a campaign in SQL, each in one guarded transaction."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Row, Select, and_, bindparam, delete, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns import journal
from campaign_service.campaigns.errors import CampaignDeletedError, CampaignNotFoundError
from campaign_service.campaigns.model import Action, CampaignSpec, Status, Times, next_status
from campaign_service.campaigns.senders import require_own_sender
from campaign_service.storage.campaigns import write_users
from campaign_service.storage.history import record_revision
from campaign_service.storage.locks import is_held, lock_exclusively, refuse_if_held
from campaign_service.storage.ports import DueTransition
from campaign_service.storage.quota import check_quota
from campaign_service.storage.rows import spec_columns
from campaign_service.storage.tables import COUNTERS, campaign_shards, campaign_users, campaigns
from chat_store.audit.callers import current_caller
from chat_store.audit.entries import AuditedChange
from chat_store.audit.recording import record
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.columns import UtcTime
from chat_store.database.engine import Database

_MOST_DUE = 100


class SqlTransitionStore:
    """See `campaign_service.storage.ports.TransitionStore`."""

    def __init__(self, database: Database, *, shards: int, monthly_quota: int = 0) -> None:
        self._database = database
        self._shards = shards
        self._monthly_quota = monthly_quota

    async def start(
        self,
        campaign_id: str,
        targets_total: int,
        now: datetime,
        *,
        times: Times | None = None,
        revision: int | None = None,
    ) -> None:
        async with self._database.transaction("campaign.start") as connection:
            row = await self._lock(connection, campaign_id)
            await refuse_if_held(connection)
            status = next_status(campaign_id, Status(row.status), Action.START)
            if status == row.status or revision not in (None, row.revision):
                return
            if self._monthly_quota:
                await check_quota(
                    connection,
                    self._database.dialect,
                    campaign_id,
                    targets_total,
                    self._monthly_quota,
                    now,
                )
            await self._change(
                connection,
                row,
                now,
                status=status,
                status_reason="",
                started_at=func.coalesce(campaigns.c.started_at, literal(now, UtcTime())),
                targets_total=targets_total,
                **_time_columns(times),
            )
            await (self._open_shards if row.started_at is None else _release_shards)(
                connection, campaign_id
            )
        journal.started(campaign_id, targets_total, resumed=row.started_at is not None)

    async def schedule(self, campaign_id: str, times: Times, now: datetime) -> None:
        async with self._database.transaction("campaign.schedule") as connection:
            row = await self._lock(connection, campaign_id)
            await refuse_if_held(connection)
            status = next_status(campaign_id, Status(row.status), Action.SCHEDULE)
            await self._change(
                connection, row, now, status=status, status_reason="", **_time_columns(times)
            )
        journal.scheduled(campaign_id, times.scheduled_for, times.stop_at)

    async def stop(
        self, campaign_id: str, reason: str, now: datetime, *, revision: int | None = None
    ) -> None:
        async with self._database.transaction("campaign.stop") as connection:
            row = await self._lock(connection, campaign_id)
            status = next_status(campaign_id, Status(row.status), Action.STOP)
            if status == row.status or revision not in (None, row.revision):
                return
            await self._change(connection, row, now, status=status, status_reason=reason)
        journal.stopped(campaign_id, reason)

    async def update(
        self,
        campaign_id: str,
        spec: CampaignSpec,
        revision: int,
        now: datetime,
        *,
        to_channels: bool,
        audience_changed: bool,
    ) -> bool:
        async with self._database.transaction("campaign.update") as connection:
            row = await self._lock(connection, campaign_id)
            if row.revision != revision:
                return False
            next_status(campaign_id, Status(row.status), Action.UPDATE)
            values = spec_columns(spec)
            await self._change(connection, row, now, to_channels=to_channels, **values)
            if audience_changed:
                await connection.execute(
                    delete(campaign_users).where(campaign_users.c.campaign_id == campaign_id)
                )
                await write_users(connection, self._database.dialect, campaign_id, spec)
                await _restart_pass(connection, campaign_id)
            return True

    async def delete(self, campaign_id: str, now: datetime) -> None:
        async with self._database.transaction("campaign.delete") as connection:
            row = await self._lock(connection, campaign_id, even_deleted=True)
            if row.deleted_at is not None:
                return
            next_status(campaign_id, Status(row.status), Action.DELETE)
            await self._change(connection, row, now, deleted_at=now)
        journal.deleted(campaign_id)

    async def due(self, now: datetime) -> Sequence[DueTransition]:
        async with self._database.autocommit() as connection:
            return [DueTransition(*row) for row in await connection.execute(_due(), {"now": now})]

    async def set_status_reason(self, campaign_id: str, reason: str, revision: int) -> None:
        async with self._database.transaction("campaign.set-reason") as connection:
            await connection.execute(
                update(campaigns)
                .where(
                    campaigns.c.id == campaign_id,
                    campaigns.c.revision == revision,
                    ~is_held(),
                )
                .values(status_reason=reason)
            )

    async def refuse_if_held(self) -> None:
        async with self._database.autocommit() as connection:
            await refuse_if_held(connection)

    async def _lock(
        self, connection: AsyncConnection, campaign_id: str, *, even_deleted: bool = False
    ) -> Row[Any]:
        await lock_exclusively(connection, self._database.dialect, campaign_id)
        found = await connection.execute(select(campaigns).where(campaigns.c.id == campaign_id))
        row = found.one_or_none()
        if row is None:
            raise CampaignNotFoundError(campaign_id)
        # under the lock: it may have got another sender since the caller looked
        require_own_sender(campaign_id, row.sender_id)
        if row.deleted_at is not None and not even_deleted:
            raise CampaignDeletedError(campaign_id)
        return row

    async def _change(
        self, connection: AsyncConnection, row: Row[Any], now: datetime, **values: Any
    ) -> None:
        statement = update(campaigns).where(campaigns.c.id == row.id)
        # never earlier than the last change, even if the clock went back
        moment = max(now, row.updated_at)
        # the clock changes a campaign, too, and leaves the last caller in place
        if caller := current_caller():
            values["updated_by"] = caller.principal_id
        revision = row.revision + 1
        await connection.execute(statement.values(revision=revision, updated_at=moment, **values))
        await record_revision(connection, self._database.dialect, row.id)
        await record(connection, AuditedChange(f"campaigns/{row.id}", row.revision, revision))

    async def _open_shards(self, connection: AsyncConnection, campaign_id: str) -> None:
        constants = {
            "campaign_id": campaign_id,
            "shard_count": self._shards,
            "pass_number": 1,
            "audience_version": "",
            "cursor": "",
            "finished": False,
            "fence": 0,
            "fails": False,
            "pages": 0,
            **dict.fromkeys(COUNTERS, 0),
        }
        fresh = {"shard": range(self._shards)}
        await connection.execute(
            *insert_rows(self._database.dialect, campaign_shards, fresh, constants=constants)
        )


async def _release_shards(connection: AsyncConnection, campaign_id: str) -> None:
    # otherwise only the fence would guard against a page of the previous run
    await connection.execute(
        update(campaign_shards)
        .where(campaign_shards.c.campaign_id == campaign_id)
        .values(fence=campaign_shards.c.fence + 1, lease_owner=None, lease_until=None, fails=False)
    )


async def _restart_pass(connection: AsyncConnection, campaign_id: str) -> None:
    """Restarts all shards, because the audience changed. Targets keep their outcomes."""
    await connection.execute(
        update(campaign_shards)
        .where(campaign_shards.c.campaign_id == campaign_id)
        .values(cursor="", finished=False, pass_number=campaign_shards.c.pass_number + 1)
    )


def _time_columns(times: Times | None) -> dict[str, datetime | None]:
    if times is None:
        return {}
    return {"scheduled_for": times.scheduled_for, "stop_at": times.stop_at}


@cache
def _due() -> Select[Any]:
    """Selects due campaigns. Built once, because it runs several times a second."""
    columns = campaigns.c
    now = bindparam("now", type_=UtcTime())
    starts = and_(columns.status == Status.SCHEDULED, columns.scheduled_for <= now)
    stops = columns.stop_at <= now
    return (
        select(
            columns.id,
            columns.revision,
            func.coalesce(stops, literal(False)).label("over"),  # noqa: FBT003 - a value
            columns.status_reason,
        )
        .where(
            columns.status.in_([Status.SCHEDULED, Status.IN_PROGRESS]),
            columns.deleted_at.is_(None),
            or_(starts, stops),
            ~is_held(),
        )
        .order_by(func.coalesce(columns.scheduled_for, columns.stop_at), columns.id)
        .limit(_MOST_DUE)
    )
