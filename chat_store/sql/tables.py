"""The chat store's tables. Alembic (`chat_store.database.migrations`) creates them."""

from sqlalchemy import (
    Boolean,
    Column,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    false,
    text,
)

from chat_store.database.columns import Count, JsonValue, Key, PlainText, UtcTime

metadata = MetaData()


def _by_custom(table: str) -> Index:
    """Indexes equality and containment of custom fields; SQLite has no index of that kind.

    Leaves out empty objects: most channels that campaigns create have one, and need no entry.
    """
    index = Index(
        f"{table}_by_custom",
        "custom",
        postgresql_using="gin",
        postgresql_ops={"custom": "jsonb_path_ops"},
        postgresql_where=text("custom <> '{}'"),
    )
    return index.ddl_if(dialect="postgresql")


users = Table(
    "users",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", PlainText),
    Column("username", PlainText),
    Column("email", PlainText),
    Column("role", PlainText, nullable=False),
    Column("language", PlainText),
    Column("image", PlainText),
    Column("teams", JsonValue, nullable=False),
    Column("custom", JsonValue, nullable=False),
    Column("banned", Boolean, nullable=False),
    Column("shadow_banned", Boolean, nullable=False),
    Column("push_preferences", JsonValue, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("last_active", UtcTime),
    Column("deactivated_at", UtcTime),
    Column("deleted_at", UtcTime),
    Index("users_by_created_at", text("created_at DESC"), "id"),
    _by_custom("users"),
)

channels = Table(
    "channels",
    metadata,
    Column("cid", Key, primary_key=True),
    Column("type", Key, nullable=False),
    Column("id", Key, nullable=False),
    Column("name", PlainText),
    Column("team", PlainText),
    Column("created_by_id", Key),
    Column("custom", JsonValue, nullable=False),
    Column("filter_tags", JsonValue, nullable=False),
    Column("frozen", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("distinct", Boolean, nullable=False),
    Column("member_count", Count, nullable=False),
    Column("message_count", Count, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("last_message_at", UtcTime),
    Column("deleted_at", UtcTime),
    Index("channels_by_created_at", text("created_at DESC"), "cid"),
    _by_custom("channels"),
    # A page of messages updates the counts of all its channels in one transaction, which can't
    # reuse the space of the old rows. With half of each page free, the new rows stay in the same
    # page, and no index has to be updated.
    postgresql_with={"fillfactor": 50},
)

members = Table(
    "members",
    metadata,
    Column("cid", Key, nullable=False),
    Column("user_id", Key, nullable=False),
    Column("channel_role", String(64), nullable=False),
    Column("custom", JsonValue, nullable=False),
    Column("hidden", Boolean, nullable=False),
    Column("archived_at", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("cid", "user_id"),
    Index("members_by_user", "user_id", "cid"),
    sqlite_with_rowid=False,
)

messages = Table(
    "messages",
    metadata,
    Column("id", Key, primary_key=True),
    Column("cid", Key, nullable=False),
    Column("user_id", Key, nullable=False),
    Column("type", String(16), nullable=False),
    Column("text", PlainText, nullable=False),
    Column("attachments", JsonValue, nullable=False),
    Column("poll_id", PlainText),
    Column("custom", JsonValue, nullable=False),
    Column("searchable", Boolean, nullable=False),
    Column("campaign_id", Key),
    Column("target_id", Key),
    Column("created_at", UtcTime, nullable=False),
    Index("messages_by_channel", "cid", "created_at", "id"),
    # the last guard of "each target at most once", below every cursor and lease
    Index(
        "messages_by_campaign_target",
        "campaign_id",
        "target_id",
        unique=True,
        sqlite_where=text("campaign_id IS NOT NULL"),
        postgresql_where=text("campaign_id IS NOT NULL"),
    ),
)

reads = Table(
    "reads",
    metadata,
    Column("cid", Key, nullable=False),
    Column("user_id", Key, nullable=False),
    Column("read_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("cid", "user_id"),
    sqlite_with_rowid=False,
)

devices = Table(
    "devices",
    metadata,
    Column("id", Key, primary_key=True),
    Column("user_id", Key, nullable=False),
    Column("push_provider", String(16), nullable=False),
    Column("push_provider_name", PlainText, nullable=False),
    # the same for all registrations of one phone; empty if unknown
    Column("hardware_id", PlainText, nullable=False, server_default=""),
    # by the push gateway's report that it is unregistered, with the reason
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("disabled_reason", PlainText, nullable=False, server_default=""),
    Column("created_at", UtcTime, nullable=False),
    Index("devices_by_user", "user_id", "id"),
)

# A version per segment, raised with each change of its list: the only data about segments that
# both services need within a transaction. Deleted segments have no row.
audience_versions = Table(
    "audience_versions",
    metadata,
    Column("segment_id", Key, primary_key=True),
    Column("version", Count, nullable=False),
    sqlite_with_rowid=False,
)
