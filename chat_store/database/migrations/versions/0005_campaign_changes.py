"""The history of campaigns' changes, the channels of outcomes, and paces."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import Count, JsonValue, Key, PlainText, UtcTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COUNTERS = ("messages_sent", "channels_created", "targets_skipped", "targets_failed")
_COLUMNS = tuple(
    """
    id name description status status_reason sender_id segment_ids to_channels sender_mode
    sender_visibility message_template create_channels show_channels channel_template skip_push
    skip_webhook max_messages_per_second scheduled_for stop_at started_at completed_at
    targets_total revision created_at updated_at deleted_at
    """.split()
)


def upgrade() -> None:
    op.create_table(
        "campaign_changes",
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
        sa.Column("messages_sent", Count, nullable=False),
        sa.Column("channels_created", Count, nullable=False),
        sa.Column("targets_skipped", Count, nullable=False),
        sa.Column("targets_failed", Count, nullable=False),
        sa.PrimaryKeyConstraint("id", "revision"),
    )
    # existing campaigns: their watchers begin with the current state
    sums = ", ".join(
        f"""coalesce(
            (SELECT sum({name}) FROM campaign_shards AS s WHERE s.campaign_id = c.id), 0)"""  # noqa: S608 - names of this file
        for name in _COUNTERS
    )
    names = ", ".join(f"c.{name}" for name in _COLUMNS)
    op.execute(
        f"INSERT INTO campaign_changes ({', '.join((*_COLUMNS, *_COUNTERS))})"  # noqa: S608 - names of this file
        f" SELECT {names}, {sums} FROM campaigns AS c"
    )
    op.add_column("campaign_outcomes", sa.Column("cid", Key))
    op.create_index(
        "campaign_outcomes_by_outcome",
        "campaign_outcomes",
        ["campaign_id", "outcome", "target_id"],
    )
    op.create_table(
        "campaign_paces",
        sa.Column("campaign_id", Key, nullable=False),
        sa.Column("next_at", Count, nullable=False),
        sa.Column("soonest_at", Count, nullable=False),
        sa.PrimaryKeyConstraint("campaign_id"),
        sqlite_with_rowid=False,
    )
