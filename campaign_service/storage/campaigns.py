"""Creates and reads campaigns in SQL."""

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Row, Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.errors import CampaignAlreadyExistsError, CampaignNotFoundError
from campaign_service.campaigns.model import Campaign, CampaignSpec, Status
from campaign_service.storage.history import campaigns_with_counters, record_revision
from campaign_service.storage.rows import campaign_from_row, spec_columns
from campaign_service.storage.tables import campaign_users, campaigns
from chat_store.audit.callers import current_principal_id
from chat_store.audit.entries import AuditedChange
from chat_store.audit.recording import record
from chat_store.database.bulk.arrays import array_from, array_of
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.bulk.prepared import prepared_once
from chat_store.database.columns import Key
from chat_store.database.engine import Database, DialectName
from chat_store.filters.predicates import Predicate
from chat_store.models import User
from chat_store.paging import Page, PageRequest
from chat_store.sql.filters import Binding
from chat_store.sql.paging import fetch_page
from chat_store.sql.tables import users
from chat_store.sql.users import COLUMNS, user_from_row

_BINDING = Binding(columns={**dict(campaigns.c), "segments": campaigns.c.segment_ids})
_OF_SENDER = [column.label(f"by_{column.name}") for column in COLUMNS]
_USER_BINDING = Binding(columns=dict(campaign_users.c), key="user_id")


class SqlCampaignStore:
    """See `campaign_service.storage.ports.CampaignStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, campaign_id: str, spec: CampaignSpec, now: datetime, *, to_channels: bool
    ) -> Campaign:
        dialect = self._database.dialect
        constants = {
            **spec_columns(spec),
            "to_channels": to_channels,
            "status": Status.DRAFT,
            "status_reason": "",
            "targets_total": 0,
            "revision": 1,
            "created_at": now,
            "created_by": current_principal_id(),
            "updated_at": now,
            "updated_by": current_principal_id(),
        }
        insert = insert_rows(dialect, campaigns, {"id": [campaign_id]}, constants=constants)
        async with self._database.transaction("campaign.create") as connection:
            if (await connection.execute(*insert)).rowcount == 1:
                await write_users(connection, dialect, campaign_id, spec)
                await record_revision(connection, dialect, campaign_id)
                await record(
                    connection, AuditedChange(f"campaigns/{campaign_id}", revision_after=1)
                )
            campaign = await load(connection, campaign_id, self._database.dialect)
        if campaign.deleted_at or not campaign.spec.same_as(spec):
            raise CampaignAlreadyExistsError(campaign_id)
        return campaign

    async def get(self, campaign_id: str) -> Campaign:
        async with self._database.autocommit() as connection:
            return await load(connection, campaign_id, self._database.dialect)

    async def get_with_sender(self, campaign_id: str) -> tuple[Campaign, User | None]:
        statement = _whole_with_sender(self._database.dialect)
        async with self._database.autocommit() as connection:
            row = await _row(connection, campaign_id, statement)
        sender = user_from_row(row[-len(_OF_SENDER) :]) if row.by_id is not None else None
        return _campaign(row), sender

    async def query(self, predicate: Predicate, page: PageRequest) -> Page[Campaign]:
        statement = campaigns_with_counters().where(campaigns.c.deleted_at.is_(None))
        async with self._database.autocommit() as connection:
            return await fetch_page(
                connection,
                statement,
                page,
                _BINDING,
                self._database.dialect,
                lambda row: campaign_from_row(row, ()),
                matching=predicate,
            )

    async def user_ids(self, campaign_id: str, page: PageRequest) -> Page[str]:
        statement = select(campaign_users.c.user_id).where(
            campaign_users.c.campaign_id == campaign_id
        )
        async with self._database.autocommit() as connection:
            return await fetch_page(
                connection,
                statement,
                page,
                _USER_BINDING,
                self._database.dialect,
                lambda row: row.user_id,
            )


async def write_users(
    connection: AsyncConnection, dialect: DialectName, campaign_id: str, spec: CampaignSpec
) -> None:
    """Adds the spec's users to those of the campaign."""
    if spec.user_ids:
        users = {"user_id": sorted(spec.user_ids, key=str.encode)}
        await connection.execute(
            *insert_rows(dialect, campaign_users, users, constants={"campaign_id": campaign_id})
        )


async def load(connection: AsyncConnection, campaign_id: str, dialect: DialectName) -> Campaign:
    """Loads the campaign in one statement. Raises `CampaignNotFoundError`."""
    return _campaign(await _row(connection, campaign_id, _whole(dialect)))


async def _row(connection: AsyncConnection, campaign_id: str, statement: Select[Any]) -> Row[Any]:
    records = prepared_once(statement, connection.dialect).records
    found = await records(connection, {"id": campaign_id})
    if not found:
        raise CampaignNotFoundError(campaign_id)
    return found[0]


def _campaign(row: Row[Any]) -> Campaign:
    return campaign_from_row(row, tuple(array_from(row.user_ids)))


@cache
def _whole(dialect: DialectName) -> Select[Any]:
    """Selects the campaign `id` and its users as one value. Built once: the most frequent query."""
    id_ = bindparam("id", type_=Key)
    of_campaign = (
        select(campaign_users.c.user_id)
        .where(campaign_users.c.campaign_id == id_)
        .order_by(campaign_users.c.user_id)
        .subquery()
    )
    user_ids = select(array_of(of_campaign.c.user_id, dialect)).label("user_ids")
    return campaigns_with_counters().add_columns(user_ids).where(campaigns.c.id == id_)


@cache
def _whole_with_sender(dialect: DialectName) -> Select[Any]:
    return (
        _whole(dialect)
        .add_columns(*_OF_SENDER)
        .outerjoin_from(campaigns, users, users.c.id == campaigns.c.sender_id)
    )
