"""The log of events, and webhooks with what they still have to get."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import Count, JsonValue, Key, PlainText, UtcTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # a constant default: neither database rewrites the table
    op.add_column(
        "campaign_shards", sa.Column("pages", sa.Integer(), nullable=False, server_default="0")
    )
    _create_log()
    _create_webhooks()


def _create_log() -> None:
    op.create_table(
        "event_log",
        sa.Column("campaign_id", Key, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=False),
        sa.Column("position", Count),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("skip_webhook", sa.Boolean(), nullable=False),
        sa.Column("skip_push", sa.Boolean(), nullable=False),
        sa.Column("messages", Count, nullable=False),
        sa.Column("channels", Count, nullable=False),
        sa.Column("content", sa.LargeBinary()),
        sa.Column("joined", JsonValue, nullable=False),
        sa.Column("shown", JsonValue, nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "revision", "shard", "page"),
    )
    op.create_index("event_log_by_position", "event_log", ["position"], unique=True)
    op.create_index("event_log_by_campaign", "event_log", ["campaign_id", "position"])
    op.create_index(
        "event_log_without_position",
        "event_log",
        ["campaign_id", "revision", "shard", "page"],
        sqlite_where=sa.text("position IS NULL"),
        postgresql_where=sa.text("position IS NULL"),
    )
    op.create_table(
        "event_log_ends",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next_position", Count, nullable=False),
        sa.Column("first_position", Count, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", Key, nullable=False),
        sa.Column("url", PlainText, nullable=False),
        sa.Column("event_types", JsonValue, nullable=False),
        sa.Column("secret", PlainText, nullable=False),
        sa.Column("previous_secret", PlainText),
        sa.Column("previous_secret_until", UtcTime),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", PlainText, nullable=False),
        sa.Column("timeout_ms", sa.Integer(), nullable=False),
        sa.Column("max_batch_events", sa.Integer(), nullable=False),
        sa.Column("position", Count, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("updated_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("webhooks_by_created_at", "webhooks", ["created_at", "id"])
    op.create_table(
        "webhook_lanes",
        sa.Column("webhook_id", Key, nullable=False),
        sa.Column("campaign_id", Key, nullable=False),
        sa.Column("replay_id", Key, nullable=False),
        sa.Column("position", Count, nullable=False),
        sa.Column("number", Count, nullable=False),
        sa.Column("end_position", Count, nullable=False),
        sa.Column("end_number", Count, nullable=False),
        sa.Column("types", JsonValue),
        sa.Column("not_before", UtcTime),
        sa.Column("not_after", UtcTime),
        sa.Column("batch_position", Count),
        sa.Column("batch_number", Count),
        sa.Column("body", sa.LargeBinary()),
        sa.Column("event_id", Key),
        sa.Column("event_type", sa.String(32)),
        sa.Column("events", sa.Integer()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_attempt_at", UtcTime),
        sa.Column("next_attempt_at", UtcTime),
        sa.Column("lease", Key),
        sa.Column("lease_until", UtcTime),
        sa.PrimaryKeyConstraint("webhook_id", "campaign_id", "replay_id"),
    )
    op.create_table(
        "webhook_attempts",
        sa.Column("id", Key, nullable=False),
        sa.Column("webhook_id", Key, nullable=False),
        sa.Column("campaign_id", Key, nullable=False),
        sa.Column("event_id", Key, nullable=False),
        sa.Column("event_type", sa.String(32), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("attempted_at", UtcTime, nullable=False),
        sa.Column("response_status", sa.Integer(), nullable=False),
        sa.Column("error", PlainText, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("next_attempt_at", UtcTime),
        sa.Column("position", Count, nullable=False),
        sa.Column("number", Count, nullable=False),
        sa.Column("end_position", Count, nullable=False),
        sa.Column("end_number", Count, nullable=False),
        sa.Column("types", JsonValue),
        sa.PrimaryKeyConstraint("id"),
    )
    of_webhook = ["webhook_id", "attempted_at", "id"]
    op.create_index("webhook_attempts_by_time", "webhook_attempts", of_webhook)
    op.create_index(
        "webhook_attempts_by_outcome",
        "webhook_attempts",
        ["webhook_id", "outcome", "attempted_at", "id"],
    )
    op.create_index("webhook_attempts_by_age", "webhook_attempts", ["attempted_at"])
    op.create_table(
        "webhook_replays",
        sa.Column("webhook_id", Key, nullable=False),
        sa.Column("request_id", Key, nullable=False),
        sa.Column("events", Count, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("webhook_id", "request_id"),
    )
