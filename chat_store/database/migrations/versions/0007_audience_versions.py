"""A version per segment, raised with each change of its list."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import Count, Key

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audience_versions",
        sa.Column("segment_id", Key, nullable=False),
        sa.Column("version", Count, nullable=False),
        sa.PrimaryKeyConstraint("segment_id"),
        sqlite_with_rowid=False,
    )
    # Campaigns in progress remember versions of another kind, which differ from these. Such a
    # campaign reads its audience once more before it is completed.
    op.execute(
        "INSERT INTO audience_versions (segment_id, version)"
        " SELECT id, 0 FROM segments WHERE deleted_at IS NULL"
    )
