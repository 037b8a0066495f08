"""The segment service's own tables, in the same database as the chat store's."""

from sqlalchemy import Boolean, Column, Index, MetaData, PrimaryKeyConstraint, Table

from chat_store.database.columns import Count, JsonValue, Key, PlainText, UtcTime

metadata = MetaData()

segments = Table(
    "segments",
    metadata,
    Column("id", Key, primary_key=True),
    Column("type", Key, nullable=False),
    Column("name", PlainText, nullable=False),
    Column("description", PlainText, nullable=False),
    Column("filter", JsonValue),
    Column("all_users", Boolean, nullable=False),
    Column("all_sender_channels", Boolean, nullable=False),
    Column("size", Count, nullable=False),
    Column("size_updated_at", UtcTime),
    # when the worker counts it next; null for lists, whose size each change updates
    Column("count_due_at", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),
    # principals; empty for segments from before this was stored
    Column("created_by", PlainText, nullable=False),
    Column("updated_by", PlainText, nullable=False),
    Index("segments_by_created_at", "created_at", "id"),
    Index("segments_by_count_due_at", "count_due_at"),
)

segment_targets = Table(
    "segment_targets",
    metadata,
    Column("segment_id", Key, nullable=False),
    Column("target_id", Key, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("segment_id", "target_id"),
    sqlite_with_rowid=False,
)
