"""Renames paces to rate limits, and their columns to those of reservations."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.rename_table("campaign_paces", "rate_limits")
    # plain renames: a batch would copy the table on SQLite
    op.execute("ALTER TABLE rate_limits RENAME COLUMN next_at TO scheduled_at")
    op.execute("ALTER TABLE rate_limits RENAME COLUMN soonest_at TO not_before")
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER INDEX campaign_paces_pkey RENAME TO rate_limits_pkey")
