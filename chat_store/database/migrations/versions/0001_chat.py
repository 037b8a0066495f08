"""Users, channels, members, messages, reads."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import Count, JsonValue, Key, PlainText, UtcTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", Key, nullable=False),
        sa.Column("name", PlainText),
        sa.Column("username", PlainText),
        sa.Column("email", PlainText),
        sa.Column("role", PlainText, nullable=False),
        sa.Column("language", PlainText),
        sa.Column("image", PlainText),
        sa.Column("teams", JsonValue, nullable=False),
        sa.Column("custom", JsonValue, nullable=False),
        sa.Column("banned", sa.Boolean(), nullable=False),
        sa.Column("shadow_banned", sa.Boolean(), nullable=False),
        sa.Column("push_preferences", JsonValue, nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("last_active", UtcTime()),
        sa.Column("deactivated_at", UtcTime()),
        sa.Column("deleted_at", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("users_by_created_at", "users", ["created_at", "id"])
    op.create_table(
        "channels",
        sa.Column("cid", Key, nullable=False),
        sa.Column("type", Key, nullable=False),
        sa.Column("id", Key, nullable=False),
        sa.Column("name", PlainText),
        sa.Column("team", PlainText),
        sa.Column("created_by_id", Key),
        sa.Column("custom", JsonValue, nullable=False),
        sa.Column("filter_tags", JsonValue, nullable=False),
        sa.Column("frozen", sa.Boolean(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("distinct", sa.Boolean(), nullable=False),
        sa.Column("member_count", Count, nullable=False),
        sa.Column("message_count", Count, nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("last_message_at", UtcTime()),
        sa.Column("deleted_at", UtcTime()),
        sa.PrimaryKeyConstraint("cid"),
    )
    op.create_index("channels_by_created_at", "channels", ["created_at", "cid"])
    op.create_table(
        "members",
        sa.Column("cid", Key, nullable=False),
        sa.Column("user_id", Key, nullable=False),
        sa.Column("channel_role", sa.String(64), nullable=False),
        sa.Column("custom", JsonValue, nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("archived_at", UtcTime()),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("cid", "user_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("members_by_user", "members", ["user_id", "cid"])
    op.create_table(
        "messages",
        sa.Column("id", Key, nullable=False),
        sa.Column("cid", Key, nullable=False),
        sa.Column("user_id", Key, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("text", PlainText, nullable=False),
        sa.Column("attachments", JsonValue, nullable=False),
        sa.Column("poll_id", PlainText),
        sa.Column("custom", JsonValue, nullable=False),
        sa.Column("searchable", sa.Boolean(), nullable=False),
        sa.Column("campaign_id", Key),
        sa.Column("target_id", Key),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "messages_by_campaign_target",
        "messages",
        ["campaign_id", "target_id"],
        unique=True,
        sqlite_where=sa.text("campaign_id IS NOT NULL"),
        postgresql_where=sa.text("campaign_id IS NOT NULL"),
    )
    op.create_index("messages_by_channel", "messages", ["cid", "created_at", "id"])
    op.create_table(
        "reads",
        sa.Column("cid", Key, nullable=False),
        sa.Column("user_id", Key, nullable=False),
        sa.Column("read_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("cid", "user_id"),
        sqlite_with_rowid=False,
    )
