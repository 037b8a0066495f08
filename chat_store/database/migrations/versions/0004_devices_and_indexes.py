"""Devices, indexes in the default order, and on PostgreSQL an index of custom data."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import Key, PlainText, UtcTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEYS = {"users": "id", "channels": "cid"}


def upgrade() -> None:
    op.create_table(
        "devices",
        sa.Column("id", Key, nullable=False),
        sa.Column("user_id", Key, nullable=False),
        sa.Column("push_provider", sa.String(16), nullable=False),
        sa.Column("push_provider_name", PlainText, nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("devices_by_user", "devices", ["user_id", "id"])
    for table, key in _KEYS.items():
        op.drop_index(f"{table}_by_created_at", table)
        op.create_index(f"{table}_by_created_at", table, [sa.text("created_at DESC"), key])
        if op.get_context().dialect.name == "postgresql":
            op.create_index(
                f"{table}_by_custom",
                table,
                ["custom"],
                postgresql_using="gin",
                postgresql_ops={"custom": "jsonb_path_ops"},
                postgresql_where=sa.text("custom <> '{}'"),
            )
