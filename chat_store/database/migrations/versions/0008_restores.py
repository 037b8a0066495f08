"""The marks of a restored database, and whether it is held until an operator has decided."""

import sqlalchemy as sa
from alembic import op

from chat_store.database.columns import Count, PlainText

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# The oids are compared here and not only at a start, because a database can be dropped and
# restored under running servers. A restored dump has other oids; a promoted replica has the same.
_ELSEWHERE = """
    place <> (SELECT oid::text FROM pg_database WHERE datname = current_database())
        || '/' || restore_guard.tableoid::text
"""


def upgrade() -> None:
    # empty until a campaign server starts: an upgraded database is not held
    op.create_table(
        "restore_guard",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("origin", PlainText, nullable=False),
        sa.Column("place", PlainText, nullable=False),
        sa.Column("generation", Count, nullable=False),
        sa.Column("held_because", PlainText, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    is_postgres = op.get_context().dialect.name == "postgresql"
    elsewhere = _ELSEWHERE if is_postgres else "false"
    op.execute(
        f"""CREATE VIEW holds AS
        SELECT CASE held_because WHEN '' THEN 'restored' ELSE held_because END AS because
        FROM restore_guard WHERE held_because <> '' OR {elsewhere}"""  # noqa: S608 - text of this file
    )
