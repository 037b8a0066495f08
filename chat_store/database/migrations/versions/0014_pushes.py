"""Phones that have several devices, and devices that are disabled."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import PlainText

revision = "0014"
down_revision = "0012"
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
