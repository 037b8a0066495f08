"""Devices in SQL."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from itertools import groupby
from typing import Any

from sqlalchemy import Row, Select, and_, bindparam, delete, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.audit.entries import AuditedChange, resource_of
from chat_store.audit.recording import record
from chat_store.database.bulk.inserts import insert_records
from chat_store.database.bulk.row_locks import lock_rows
from chat_store.database.bulk.row_sources import in_keys, inline_rows, key_parameters
from chat_store.database.columns import Count, Key, PlainText
from chat_store.database.engine import Database, DialectName
from chat_store.models import Device, MemberDevices, PushProvider, WriteMode
from chat_store.sql.tables import devices, members, users
from chat_store.sql.users import require_users

_NAMES = tuple(field.name for field in fields(Device))
_COLUMNS = tuple(devices.c[name] for name in _NAMES)


class SqlDeviceStore:
    """See `chat_store.store.DeviceStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def upsert(
        self, given: Sequence[Device], now: datetime, mode: WriteMode = WriteMode.REPLACE
    ) -> list[Device]:
        dialect = self._database.dialect
        unique = {device.id: device for device in given}
        async with self._database.transaction("devices.upsert") as connection:
            await require_users(connection, dialect, [each.user_id for each in unique.values()])
            await write_devices(connection, dialect, given, now, mode)
            stored = await _by_id(connection, dialect, unique)
            await record(
                connection, AuditedChange(resource_of("devices", [device.id for device in given]))
            )
        return [stored[device.id] for device in given]

    async def delete(self, ids: Sequence[str]) -> int:
        given = inline_rows(self._database.dialect, {"id": Key}, {"id": list(ids)})
        chosen = devices.c.id.in_(select(given.c["id"]).select_from(given.source))
        async with self._database.transaction("devices.delete") as connection:
            await lock_rows(connection, devices, chosen)
            deleted = (await connection.execute(delete(devices).where(chosen))).rowcount
            if deleted:
                await record(connection, AuditedChange(resource_of("devices", ids)))
            return deleted

    async def of_members(
        self, cids: Collection[str], after: tuple[str, str], most: int
    ) -> Sequence[MemberDevices]:
        dialect = self._database.dialect
        after_cid, after_user_id = after
        given = {
            **key_parameters(dialect, cids),
            "after_cid": after_cid,
            "after_user_id": after_user_id,
            "most": most,
        }
        async with self._database.autocommit() as connection:
            rows = (await connection.execute(_of_members(dialect), given)).all()
        return [
            _member_devices(cid, list(of_one))
            for (cid, _), of_one in groupby(rows, lambda row: (row.cid, row.user_id))
        ]

    async def disable(self, reasons: Mapping[str, str]) -> int:
        types = {"id": Key, "reason": PlainText}
        values = {"id": list(reasons), "reason": list(reasons.values())}
        given = inline_rows(self._database.dialect, types, values)
        reason = (
            select(given.c["reason"])
            .select_from(given.source)
            .where(given.c["id"] == devices.c.id)
            .scalar_subquery()
        )
        chosen = and_(
            devices.c.id.in_(select(given.c["id"]).select_from(given.source)), ~devices.c.disabled
        )
        statement = update(devices).where(chosen).values(disabled=True, disabled_reason=reason)
        async with self._database.transaction("devices.disable") as connection:
            await lock_rows(connection, devices, chosen)
            return (await connection.execute(statement)).rowcount


async def write_devices(
    connection: AsyncConnection,
    dialect: DialectName,
    given: Iterable[Device],
    now: datetime,
    mode: WriteMode,
) -> None:
    """Writes devices. Existing ones stay as they are, or are replaced."""
    rows = list({device.id: device for device in given}.values())
    await connection.execute(
        *insert_records(
            dialect,
            devices,
            _NAMES,
            rows,
            now,
            replace=[name for name in _NAMES if name != "id"] if mode is WriteMode.REPLACE else (),
        )
    )


async def _by_id(
    connection: AsyncConnection, dialect: DialectName, ids: Iterable[str]
) -> dict[str, Device]:
    given = inline_rows(dialect, {"id": Key}, {"id": list(ids)})
    statement = select(*_COLUMNS).join_from(given.source, devices, devices.c.id == given.c["id"])
    return {row.id: _device_from_row(row) for row in await connection.execute(statement)}


@cache
def _of_members(dialect: DialectName) -> Select[Any]:
    """The devices of the next members who have any."""
    has_devices = select(devices.c.id).where(devices.c.user_id == members.c.user_id).exists()
    after = tuple_(bindparam("after_cid", type_=Key), bindparam("after_user_id", type_=Key))
    chosen = (
        select(members.c.cid, members.c.user_id)
        .where(
            in_keys(dialect, members.c.cid),
            tuple_(members.c.cid, members.c.user_id) > after,
            has_devices,
        )
        .order_by(members.c.cid, members.c.user_id)
        .limit(bindparam("most", type_=Count))
        .subquery("chosen")
    )
    return (
        select(
            chosen.c.cid,
            users.c.push_preferences,
            users.c.deactivated_at,
            users.c.deleted_at,
            *_COLUMNS,
        )
        .select_from(chosen)
        .join(users, users.c.id == chosen.c.user_id)
        .join(devices, devices.c.user_id == chosen.c.user_id)
        .order_by(chosen.c.cid, chosen.c.user_id, devices.c.id)
    )


def _member_devices(cid: str, rows: Sequence[Row[Any]]) -> MemberDevices:
    first = rows[0]
    return MemberDevices(
        cid=cid,
        user_id=first.user_id,
        is_active=first.deactivated_at is None and first.deleted_at is None,
        push_preferences=first.push_preferences,
        devices=tuple(map(_device_from_row, rows)),
    )


def _device_from_row(row: Row[Any]) -> Device:
    values = {name: getattr(row, name) for name in _NAMES}
    return Device(**{**values, "push_provider": PushProvider(values["push_provider"])})
