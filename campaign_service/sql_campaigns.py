"""Campaigns in SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns import Action, Campaign, Definition, Status, next_status
from campaign_service.errors import (
    CampaignAlreadyExistsError,
    CampaignDeletedError,
    CampaignNotFoundError,
)
from campaign_service.fields import CAMPAIGN_BINDING, CAMPAIGN_USER_BINDING
from campaign_service.locks import take_over
from campaign_service.records import campaign_from_row, definition_values
from campaign_service.tables import campaign_shards, campaign_users, campaigns
from chat_store.columns import Key, UtcTime
from chat_store.database import Database
from chat_store.paging import Page, PageRequest
from chat_store.predicates import Predicate
from chat_store.recordsets import insert_rows, record_set
from chat_store.sql_filters import where
from chat_store.sql_paging import fetch_page

COUNTERS = ("messages_sent", "channels_created", "targets_skipped", "targets_failed")


class SqlCampaignStore:
    """See `campaign_service.store.CampaignStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, campaign_id: str, definition: Definition, now: datetime, *, to_channels: bool
    ) -> Campaign:
        dialect = self._database.dialect
        constants = {
            **definition_values(definition),
            "to_channels": to_channels,
            "status": Status.DRAFT,
            "status_reason": "",
            "targets_total": 0,
            "max_messages_per_second": 0,
            "revision": 1,
            "created_at": now,
            "updated_at": now,
        }
        users = {"user_id": sorted(definition.user_ids, key=str.encode)}
        async with self._database.write() as connection:
            insert = insert_rows(dialect, campaigns, {"id": [campaign_id]}, constants=constants)
            created = (await connection.execute(insert)).rowcount == 1
            if created and definition.user_ids:
                await connection.execute(
                    insert_rows(
                        dialect, campaign_users, users, constants={"campaign_id": campaign_id}
                    )
                )
            campaign = await self._load(connection, campaign_id)
        if campaign.deleted_at or not campaign.definition.same_as(definition):
            raise CampaignAlreadyExistsError(campaign_id)
        return campaign

    async def get(self, campaign_id: str) -> Campaign:
        async with self._database.read() as connection:
            return await self._load(connection, campaign_id)

    async def query(self, predicate: Predicate, page: PageRequest) -> Page[Campaign]:
        dialect = self._database.dialect
        statement = select(campaigns).where(
            where(predicate, CAMPAIGN_BINDING, dialect), campaigns.c.deleted_at.is_(None)
        )
        async with self._database.read() as connection:
            rows = await fetch_page(
                connection, statement, page, CAMPAIGN_BINDING, dialect, lambda row: row
            )
            counters = await self._counters(connection, [row.id for row in rows.items])
        found = tuple(campaign_from_row(row, counters.get(row.id, {}), ()) for row in rows.items)
        return Page(found, rows.next_cursor, rows.prev_cursor)

    async def user_ids(self, campaign_id: str, page: PageRequest) -> Page[str]:
        statement = select(campaign_users.c.user_id).where(
            campaign_users.c.campaign_id == campaign_id
        )
        async with self._database.read() as connection:
            return await fetch_page(
                connection,
                statement,
                page,
                CAMPAIGN_USER_BINDING,
                self._database.dialect,
                lambda row: row.user_id,
            )

    async def start(self, campaign_id: str, targets_total: int, shards: int, now: datetime) -> None:
        async with self._database.write() as connection:
            row = await self._take(connection, campaign_id)
            status = next_status(campaign_id, Status(row.status), Action.START)
            if status == row.status:
                return
            await connection.execute(
                update(campaigns)
                .where(campaigns.c.id == campaign_id)
                .values(
                    status=status,
                    status_reason="",
                    started_at=func.coalesce(campaigns.c.started_at, literal(now, UtcTime())),
                    targets_total=targets_total,
                    revision=campaigns.c.revision + 1,
                    updated_at=now,
                )
            )
            fresh = insert_rows(
                self._database.dialect,
                campaign_shards,
                {"shard": range(shards)},
                constants={
                    "campaign_id": campaign_id,
                    "shard_count": shards,
                    "pass_number": 1,
                    "audience_version": "",
                    "cursor": "",
                    "finished": False,
                    "fence": 0,
                    **dict.fromkeys(COUNTERS, 0),
                },
            )
            # a page of the run before would still be guarded by nothing but its fence
            resumed = (
                update(campaign_shards)
                .where(campaign_shards.c.campaign_id == campaign_id)
                .values(fence=campaign_shards.c.fence + 1, lease_owner=None, lease_until=None)
            )
            await connection.execute(fresh if row.started_at is None else resumed)

    async def stop(self, campaign_id: str, reason: str, now: datetime) -> None:
        async with self._database.write() as connection:
            row = await self._take(connection, campaign_id)
            status = next_status(campaign_id, Status(row.status), Action.STOP)
            if status == row.status:
                return
            await connection.execute(
                update(campaigns)
                .where(campaigns.c.id == campaign_id)
                .values(
                    status=status,
                    status_reason=reason,
                    revision=campaigns.c.revision + 1,
                    updated_at=now,
                )
            )

    async def _take(self, connection: AsyncConnection, campaign_id: str) -> Row[Any]:
        await take_over(connection, self._database.dialect, campaign_id)
        row = (
            await connection.execute(select(campaigns).where(campaigns.c.id == campaign_id))
        ).one_or_none()
        if row is None:
            raise CampaignNotFoundError(campaign_id)
        if row.deleted_at is not None:
            raise CampaignDeletedError(campaign_id)
        return row

    async def _load(self, connection: AsyncConnection, campaign_id: str) -> Campaign:
        row = (
            await connection.execute(select(campaigns).where(campaigns.c.id == campaign_id))
        ).one_or_none()
        if row is None:
            raise CampaignNotFoundError(campaign_id)
        user_ids = await connection.scalars(
            select(campaign_users.c.user_id)
            .where(campaign_users.c.campaign_id == campaign_id)
            .order_by(campaign_users.c.user_id)
        )
        counters = await self._counters(connection, [campaign_id])
        return campaign_from_row(row, counters.get(campaign_id, {}), tuple(user_ids))

    async def _counters(
        self, connection: AsyncConnection, campaign_ids: Sequence[str]
    ) -> dict[str, dict[str, int]]:
        given = record_set(self._database.dialect, {"id": Key}, {"id": campaign_ids})
        shards = campaign_shards.c
        statement = (
            select(shards.campaign_id, *[func.sum(shards[name]).label(name) for name in COUNTERS])
            .join_from(given.source, campaign_shards, shards.campaign_id == given.c["id"])
            .group_by(shards.campaign_id)
        )
        return {
            row.campaign_id: {name: int(getattr(row, name)) for name in COUNTERS}
            for row in await connection.execute(statement)
        }
