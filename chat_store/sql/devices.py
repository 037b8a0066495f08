"""Devices in SQL."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.database.bulk.inserts import insert_records
from chat_store.database.bulk.row_sources import inline_rows
from chat_store.database.columns import Key
from chat_store.database.engine import Database, DialectName
from chat_store.models import Device, PushProvider, WriteMode
from chat_store.sql.tables import devices
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
        return [stored[device.id] for device in given]

    async def delete(self, ids: Sequence[str]) -> int:
        given = inline_rows(self._database.dialect, {"id": Key}, {"id": list(ids)})
        statement = delete(devices).where(
            devices.c.id.in_(select(given.c["id"]).select_from(given.source))
        )
        async with self._database.transaction("devices.delete") as connection:
            return (await connection.execute(statement)).rowcount


async def write_devices(
    connection: AsyncConnection,
    dialect: DialectName,
    given: Iterable[Device],
    now: datetime,
    mode: WriteMode,
) -> None:
    """Writes devices. Existing ones stay as they are, or are replaced."""
    unique = {device.id: device for device in given}
    # all writers lock rows in the same order, so that no two wait for each other
    rows = [unique[id_] for id_ in sorted(unique)]
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


def _device_from_row(row: Row[Any]) -> Device:
    values = row._asdict()
    return Device(**{**values, "push_provider": PushProvider(values["push_provider"])})
