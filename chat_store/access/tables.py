"""The table of tokens."""

from sqlalchemy import Column, Index, LargeBinary, MetaData, Table

from chat_store.database.columns import JsonValue, Key, PlainText, UtcTime

metadata = MetaData()

access_tokens = Table(
    "access_tokens",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", PlainText, nullable=False),
    # SHA-256 of the whole text
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", JsonValue, nullable=False),
    Column("sender_ids", JsonValue, nullable=False),
    Column("expires_at", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", PlainText, nullable=False),
    Column("last_used_at", UtcTime),
    Column("revoked_at", UtcTime),
)
Index("access_tokens_by_created_at", access_tokens.c.created_at, access_tokens.c.id)
