"""Writes an import's batches in SQL."""

from collections.abc import Set as AbstractSet
from datetime import datetime

from chat_store.audit.entries import AuditedChange
from chat_store.audit.recording import record
from chat_store.database.engine import Database
from chat_store.models import WriteMode
from chat_store.sql.channels import known_channels, lock_channels, write_channels
from chat_store.sql.devices import write_devices
from chat_store.sql.members import write_members, write_reads
from chat_store.sql.messages import channels_left, write_messages
from chat_store.sql.users import known_users, write_users
from chat_store.store import ImportBatch


class SqlImportStore:
    """See `chat_store.store.ImportStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known_users(self, ids: AbstractSet[str]) -> AbstractSet[str]:
        if not ids:
            return ids
        async with self._database.autocommit() as connection:
            return await known_users(connection, self._database.dialect, ids, deleted=True)

    async def known_channels(self, cids: AbstractSet[str]) -> AbstractSet[str]:
        if not cids:
            return cids
        async with self._database.autocommit() as connection:
            return await known_channels(connection, self._database.dialect, cids)

    async def write(self, batch: ImportBatch, now: datetime, mode: WriteMode) -> None:
        dialect = self._database.dialect
        async with self._database.transaction("import.batch") as connection:
            if batch.users:
                await write_users(
                    connection, dialect, batch.users, now, mode, with_lifecycle_times=True
                )
            if batch.devices:
                await write_devices(connection, dialect, batch.devices, now, mode)
            left = await channels_left(connection, dialect, batch.messages, mode)
            await lock_channels(connection, dialect, batch.cids | left)
            if batch.channels:
                await write_channels(connection, dialect, batch.channels, now, mode)
            await write_members(connection, dialect, batch.members, now, mode)
            await write_reads(connection, dialect, batch.last_read, now)
            if batch.messages:
                await write_messages(connection, dialect, batch.messages, now, mode)
            if records := batch.records:
                await record(
                    connection, AuditedChange(f"{records:,} record{'s' if records > 1 else ''}")
                )
