"""The chat store on SQLite or PostgreSQL."""

from chat_store.database import Database
from chat_store.sql_channels import SqlChannelStore
from chat_store.sql_devices import SqlDeviceStore
from chat_store.sql_imports import SqlImportStore
from chat_store.sql_members import SqlMemberStore
from chat_store.sql_messages import SqlMessageStore
from chat_store.sql_users import SqlUserStore
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
