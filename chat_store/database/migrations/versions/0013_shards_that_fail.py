"""Which shards have met a page whose targets would all fail, before anything was sent."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # a constant default: neither database rewrites the table
    op.add_column(
        "campaign_shards",
        sa.Column("fails", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
