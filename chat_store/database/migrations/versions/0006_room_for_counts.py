"""Room beside each channel for what messages make of it, on PostgreSQL."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        # Of pages written from now on: rewriting the others would lock the table for long, and
        # they get there by themselves, for what an update leaves behind is room for the next one.
        op.execute("ALTER TABLE channels SET (fillfactor = 50)")
