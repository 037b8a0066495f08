"""The tables of the audit log."""

from typing import Any

from sqlalchemy import Column, Index, Integer, LargeBinary, MetaData, Table

from chat_store.database.columns import Count, PlainText, UtcTime

metadata = MetaData()


def _fields() -> list[Column[Any]]:
    """The columns of `entries.FIELDS`."""
    return [
        Column("created_at", UtcTime, nullable=False),
        # a token; empty for refused calls without a valid one
        Column("principal_id", PlainText, nullable=False),
        Column("principal_name", PlainText, nullable=False),
        Column("method", PlainText, nullable=False),
        Column("resource", PlainText, nullable=False),
        Column("revision_before", Count),
        Column("revision_after", Count),
        # the reason of a refused call; empty for a change
        Column("refusal", PlainText, nullable=False),
        Column("request_id", PlainText, nullable=False),
        Column("peer", PlainText, nullable=False),
    ]


# Rows that are not in the chain yet, written in the transaction of their change. Transactions on
# PostgreSQL would wait for each other if each had to know the hash of the row before its own.
audit_pending = Table(
    "audit_pending",
    metadata,
    Column("id", Count, primary_key=True, autoincrement=True),
    *_fields(),
)

# The chain. Rows are moved here from `audit_pending`, by one server at a time.
audit_log = Table(
    "audit_log",
    metadata,
    # from 1 on, without gaps
    Column("position", Count, primary_key=True, autoincrement=False),
    *_fields(),
    # see `entries.chained`
    Column("hash", LargeBinary, nullable=False),
    Index("audit_log_by_created_at", "created_at", "position"),
    Index("audit_log_by_principal_id", "principal_id", "position"),
    Index("audit_log_by_resource", "resource", "position"),
    Index("audit_log_by_method", "method", "position"),
)

# One row, from the first chained row on. It is locked while the chain grows or is cut.
audit_chain = Table(
    "audit_chain",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # the last row
    Column("position", Count, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    # the last row that was older than the retention, and is deleted; 0 if none was
    Column("cut_position", Count, nullable=False),
    Column("cut_hash", LargeBinary, nullable=False),
)
