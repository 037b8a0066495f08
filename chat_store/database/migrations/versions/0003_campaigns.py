"""Campaigns, their shards and outcomes."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import Count, JsonValue, Key, PlainText, UtcTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "campaigns",
        sa.Column("id", Key, nullable=False),
        sa.Column("name", PlainText, nullable=False),
        sa.Column("description", PlainText, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("status_reason", PlainText, nullable=False),
        sa.Column("sender_id", Key, nullable=False),
        sa.Column("segment_ids", JsonValue, nullable=False),
        sa.Column("to_channels", sa.Boolean(), nullable=False),
        sa.Column("sender_mode", sa.String(16)),
        sa.Column("sender_visibility", sa.String(16)),
        sa.Column("message_template", JsonValue, nullable=False),
        sa.Column("create_channels", sa.Boolean(), nullable=False),
        sa.Column("show_channels", sa.Boolean(), nullable=False),
        sa.Column("channel_template", JsonValue),
        sa.Column("skip_push", sa.Boolean(), nullable=False),
        sa.Column("skip_webhook", sa.Boolean(), nullable=False),
        sa.Column("max_messages_per_second", sa.Integer(), nullable=False),
        sa.Column("scheduled_for", UtcTime()),
        sa.Column("stop_at", UtcTime()),
        sa.Column("started_at", UtcTime()),
        sa.Column("completed_at", UtcTime()),
        sa.Column("targets_total", Count, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("deleted_at", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("campaigns_by_created_at", "campaigns", ["created_at", "id"])
    op.create_index("campaigns_by_status", "campaigns", ["status"])
    op.create_table(
        "campaign_users",
        sa.Column("campaign_id", Key, nullable=False),
        sa.Column("user_id", Key, nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "user_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "campaign_shards",
        sa.Column("campaign_id", Key, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("shard_count", sa.Integer(), nullable=False),
        sa.Column("pass_number", sa.Integer(), nullable=False),
        sa.Column("audience_version", PlainText, nullable=False),
        sa.Column("cursor", PlainText, nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.Column("lease_owner", PlainText),
        sa.Column("lease_until", UtcTime()),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("messages_sent", Count, nullable=False),
        sa.Column("channels_created", Count, nullable=False),
        sa.Column("targets_skipped", Count, nullable=False),
        sa.Column("targets_failed", Count, nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "shard"),
    )
    op.create_index("campaign_shards_by_lease", "campaign_shards", ["finished", "lease_until"])
    op.create_table(
        "campaign_outcomes",
        sa.Column("campaign_id", Key, nullable=False),
        sa.Column("target_id", Key, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "target_id"),
        sqlite_with_rowid=False,
    )
