"""Segments and their listed targets."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import Count, JsonValue, Key, PlainText, UtcTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "segments",
        sa.Column("id", Key, nullable=False),
        sa.Column("type", Key, nullable=False),
        sa.Column("name", PlainText, nullable=False),
        sa.Column("description", PlainText, nullable=False),
        sa.Column("filter", JsonValue),
        sa.Column("all_users", sa.Boolean(), nullable=False),
        sa.Column("all_sender_channels", sa.Boolean(), nullable=False),
        sa.Column("size", Count, nullable=False),
        sa.Column("size_updated_at", UtcTime()),
        sa.Column("count_due_at", UtcTime()),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.Column("deleted_at", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("segments_by_count_due_at", "segments", ["count_due_at"])
    op.create_index("segments_by_created_at", "segments", ["created_at", "id"])
    op.create_table(
        "segment_targets",
        sa.Column("segment_id", Key, nullable=False),
        sa.Column("target_id", Key, nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("segment_id", "target_id"),
        sqlite_with_rowid=False,
    )
