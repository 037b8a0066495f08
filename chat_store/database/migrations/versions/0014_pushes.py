"""Push notifications: how far they are, their counts, and phones that have several devices."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import Count, Key, PlainText

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # constant defaults: neither database rewrites the table
    for column in (
        sa.Column("hardware_id", PlainText, nullable=False, server_default=""),
        sa.Column("disabled", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("disabled_reason", PlainText, nullable=False, server_default=""),
    ):
        op.add_column("devices", column)
    op.create_table(
        "push_place",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", Count, nullable=False),
        sa.Column("number", Count, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "campaign_pushes",
        sa.Column("campaign_id", Key, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("pushes", Count, nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "outcome", "reason"),
        sqlite_with_rowid=False,
    )
