"""Room for a CID of 320 characters in each key, on PostgreSQL: channel ids have up to 255.

A longer limit changes no row and no index. SQLite holds to no length.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_KEYS = sa.text(
    "SELECT c.table_name, c.column_name FROM information_schema.columns c "
    "JOIN information_schema.tables t USING (table_schema, table_name) "
    "WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' "
    "AND c.character_maximum_length = 255 AND c.collation_name = 'C' "
    "ORDER BY c.table_name, c.column_name"
)


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    for table, column in op.get_bind().execute(_KEYS).all():
        op.alter_column(table, column, type_=sa.String(320, collation="C"))
