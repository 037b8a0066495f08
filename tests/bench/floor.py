"""The floor: a bare driver that writes the very rows of a campaign, and does nothing else.

Same tables and indexes, same durability, one transaction a page of the sender's size. The rows
are ready-made before the clock starts.
"""

import time

from tests.bench.bare import open_bare

# per target of a campaign that creates its channels
_ROWS_PER_TARGET = {"channels": 1, "members": 2, "messages": 1}
_ROWS = """
    SELECT t.* FROM messages AS m JOIN {table} AS t ON t.cid = m.cid ORDER BY m.target_id, t.cid
"""


def floor_seconds(written_url: str, fresh_url: str, page_size: int) -> float:
    """Writes what a campaign has written to one database into another; how long that takes."""
    with open_bare(written_url) as written:
        tables = [
            list(written.read(table, _ROWS.format(table=table), page_size * rows))
            for table, rows in _ROWS_PER_TARGET.items()
        ]
    with open_bare(fresh_url) as fresh:
        begin = time.perf_counter()
        for page in zip(*tables, strict=True):
            fresh.insert(*page)
        return time.perf_counter() - begin
