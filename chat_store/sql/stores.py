"""The chat store on SQLite or PostgreSQL."""

from chat_store.database.engine import Database
from chat_store.sql.channels import SqlChannelStore
from chat_store.sql.devices import SqlDeviceStore
from chat_store.sql.imports import SqlImportStore
from chat_store.sql.members import SqlMemberStore
from chat_store.sql.messages import SqlMessageStore
from chat_store.sql.users import SqlUserStore
from chat_store.store import ChatStore


def sql_chat_store(database: Database) -> ChatStore:
    return ChatStore(
        users=SqlUserStore(database),
        channels=SqlChannelStore(database),
        members=SqlMemberStore(database),
        messages=SqlMessageStore(database),
        devices=SqlDeviceStore(database),
        imports=SqlImportStore(database),
    )
