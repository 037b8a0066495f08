"""The tokens of callers."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import JsonValue, Key, PlainText, UtcTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access_tokens",
        sa.Column("id", Key, nullable=False),
        sa.Column("name", PlainText, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", JsonValue, nullable=False),
        sa.Column("sender_ids", JsonValue, nullable=False),
        sa.Column("expires_at", UtcTime),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("created_by", PlainText, nullable=False),
        sa.Column("last_used_at", UtcTime),
        sa.Column("revoked_at", UtcTime),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("access_tokens_by_created_at", "access_tokens", ["created_at", "id"])
