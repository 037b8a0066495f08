"""The floor: a bare driver that writes the very rows of a campaign, and does nothing else.

Same tables and indexes, same durability, one transaction a page of the sender's size. The rows
are ready-made before the clock starts.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

from tests.bench.bare_driver import Arrivals, Rows, open_bare_driver

# how many rows a target has in which table
NEW_CHANNELS = {"channels": 1, "members": 2, "messages": 1}
MESSAGES = {"messages": 1}

_ROWS = """
    SELECT t.* FROM messages AS m JOIN {table} AS t ON t.cid = m.cid ORDER BY m.target_id, t.cid
"""


@dataclass(frozen=True, slots=True)
class Written:
    """What a campaign wrote, page by page."""

    pages: Sequence[Sequence[Rows]]
    arrivals: Sequence[Arrivals]


def what_was_written(
    database_url: str, rows_per_target: Mapping[str, int], page_size: int
) -> Written:
    """Of the only campaign of a database; `rows_per_target` says which tables it wrote to."""
    with open_bare_driver(database_url) as driver:
        tables = [
            list(driver.read(table, _ROWS.format(table=table), page_size * rows))
            for table, rows in rows_per_target.items()
        ]
    messages = tables[list(rows_per_target).index("messages")]
    return Written(list(zip(*tables, strict=True)), list(_arrivals(messages)))


def floor_seconds(database_url: str, written: Written, *, with_arrivals: bool = False) -> float:
    """How long it takes to write this into another database.

    `with_arrivals`, the counts of channels that were there before are moved, too.
    """
    arrivals = written.arrivals if with_arrivals else repeat(None)
    with open_bare_driver(database_url) as driver:
        begin = time.perf_counter()
        for page, of_page in zip(written.pages, arrivals, strict=False):
            driver.insert(*page, arrivals=of_page)
        return time.perf_counter() - begin


def _arrivals(messages: Sequence[Rows]) -> Iterator[Arrivals]:
    for page in messages:
        cid, created_at = page.columns.index("cid"), page.columns.index("created_at")
        yield Arrivals([row[cid] for row in page.rows], page.rows[0][created_at])
