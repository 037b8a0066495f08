"""The audit log, and who has created and changed segments, campaigns and webhooks."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import Count, PlainText, UtcTime

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_WITH_AUTHORS = ("segments", "campaigns", "campaign_changes", "webhooks")
_INDEXED = ("created_at", "principal_id", "resource", "method")


def upgrade() -> None:
    op.create_table(
        "audit_pending",
        sa.Column("id", Count, primary_key=True, autoincrement=True),
        *_fields(),
    )
    op.create_table(
        "audit_log",
        sa.Column("position", Count, primary_key=True, autoincrement=False),
        *_fields(),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
    )
    for column in _INDEXED:
        op.create_index(f"audit_log_by_{column}", "audit_log", [column, "position"])
    op.create_table(
        "audit_chain",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("position", Count, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("cut_position", Count, nullable=False),
        sa.Column("cut_hash", sa.LargeBinary(), nullable=False),
    )
    for table in _WITH_AUTHORS:
        for column in ("created_by", "updated_by"):
            # a constant default: neither database rewrites the table
            op.add_column(table, sa.Column(column, PlainText, nullable=False, server_default=""))


def _fields() -> list[sa.Column[Any]]:
    return [
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("principal_id", PlainText, nullable=False),
        sa.Column("principal_name", PlainText, nullable=False),
        sa.Column("method", PlainText, nullable=False),
        sa.Column("resource", PlainText, nullable=False),
        sa.Column("revision_before", Count),
        sa.Column("revision_after", Count),
        sa.Column("refusal", PlainText, nullable=False),
        sa.Column("request_id", PlainText, nullable=False),
        sa.Column("peer", PlainText, nullable=False),
    ]
