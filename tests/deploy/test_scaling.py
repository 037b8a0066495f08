"""The keys of every table, held against the demands of databases that spread a table over machines.

Citus wants the column by which a table is spread in every unique key. YugabyteDB takes any key, but
an index that begins with a time or a running number has all its new rows on one machine.
`deploy/SCALING.md` has the same table.
"""

from pathlib import Path

import pytest
from sqlalchemy import Index, MetaData, Table

from campaign_service.storage import event_tables
from campaign_service.storage import tables as campaign_tables
from chat_store.access import tables as access_tables
from chat_store.sql import tables as chat_tables
from segment_service.sql import tables as segment_tables

PAGE = Path(__file__).parents[2] / "deploy" / "SCALING.md"
METADATA: list[MetaData] = [
    access_tables.metadata,
    campaign_tables.metadata,
    chat_tables.metadata,
    event_tables.metadata,
    segment_tables.metadata,
]
TABLES = {table.name: table for metadata in METADATA for table in metadata.tables.values()}

# by its column whose values are spread over the machines
SPREAD_BY = {
    "users": "id",
    "devices": "user_id",
    "channels": "cid",
    "members": "cid",
    "messages": "cid",
    "reads": "cid",
    "segment_targets": "target_id",
    "campaigns": "id",
    "campaign_changes": "id",
    "campaign_users": "campaign_id",
    "campaign_shards": "campaign_id",
    "campaign_outcomes": "campaign_id",
    "campaign_pushes": "campaign_id",
    "event_log": "campaign_id",
    "webhook_lanes": "campaign_id",
    "webhook_attempts": "campaign_id",
}
# a copy of each on every machine (Citus: reference tables), because they stay small
COPIED = {
    "access_tokens",
    "audience_versions",
    "campaign_months",
    "event_log_ends",
    "push_place",
    "rate_limits",
    "restore_guard",
    "segments",
    "webhook_replays",
    "webhooks",
}
# columns that grow with the time of their rows
RUNNING = {"attempted_at", "count_due_at", "created_at", "position"}


def without_the_column(table: Table, column: str) -> list[str]:
    """The unique keys that lack it, as Citus would name them."""
    keys = {"the primary key": list(table.primary_key.columns.keys())}
    for index in table.indexes:
        if index.unique:
            keys[f"`{index.name}`"] = [each.name for each in index.columns]
    return sorted(
        f"{name} ({', '.join(columns)})" for name, columns in keys.items() if column not in columns
    )


def at_one_end(table: Table) -> list[str]:
    """The indexes whose new rows are all on one machine."""
    return sorted(f"`{index.name}`" for index in table.indexes if first_of(index) in RUNNING)


def first_of(index: Index) -> str:
    """The name of the first column, which may be in an expression like `created_at DESC`."""
    return str(index.expressions[0]).split()[0].rpartition(".")[2]


def row_of(name: str) -> str:
    """The row of the page's table."""
    table, column = TABLES[name], SPREAD_BY[name]
    lacking = without_the_column(table, column)
    citus = f"no: {', '.join(lacking)}" if lacking else "yes"
    yugabyte = ", ".join(at_one_end(table)) or "none"
    return f"| `{name}` | `{column}` | {citus} | {yugabyte} |"


def test_every_table_is_either_spread_or_copied() -> None:
    assert set(TABLES) == {*SPREAD_BY, *COPIED}, "say which of the two a new table is"


@pytest.mark.parametrize("name", SPREAD_BY)
def test_the_page_on_scaling_tells_which_keys_each_engine_would_refuse(name: str) -> None:
    assert row_of(name) in PAGE.read_text().splitlines()


def test_the_page_has_no_row_for_a_table_that_is_gone() -> None:
    table = PAGE.read_text().partition("| table | spread by ")[2]
    rows = [line for line in table.splitlines() if line.startswith("| `")]

    assert sorted(rows) == sorted(map(row_of, SPREAD_BY))


def test_no_key_of_a_table_is_a_number_that_the_database_counts() -> None:
    counted = [
        f"{table.name}.{column.name}"
        for table in TABLES.values()
        for column in table.columns
        if column.autoincrement is True
        or (column.server_default is not None and column.primary_key)
    ]

    assert counted == []
