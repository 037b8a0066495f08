"""Room beside each channel for what messages make of it, on PostgreSQL."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        # For channels from now on: rewriting those that are there would lock them for long.
        # Whatever is updated leaves such room in the end, too.
        op.execute("ALTER TABLE channels SET (fillfactor = 50)")


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE channels RESET (fillfactor)")
