"""The number of messages that all campaigns have written per calendar month, for a quota."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import Count

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "campaign_months",
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("messages", Count, nullable=False),
        sa.PrimaryKeyConstraint("month"),
        sqlite_with_rowid=False,
    )
