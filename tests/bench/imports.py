"""How fast the users come in through the import, beside the bare driver that has ready-made rows."""

import time
from collections.abc import Iterator

from chat_store.imports.lines import CHUNK_RECORDS
from tests.bench.bare_driver import open_bare_driver
from tests.bench.databases import BenchDatabase, Line


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    seconds, driver = bench_database.import_seconds(), _bare_seconds(bench_database)
    yield Line(
        "import",
        f"{bench_database.users / seconds:,.0f} users/s",
        f"{seconds:.1f} s, one round; {driver / seconds:.2f} of the "
        f"bare insert's {bench_database.users / driver:,.0f}",
    )


def _bare_seconds(bench_database: BenchDatabase) -> float:
    """In transactions of the import's size; without the time to read what is to be written."""
    seconds = 0.0
    with (
        open_bare_driver(bench_database.fresh()) as imported,
        open_bare_driver(bench_database.empty()) as empty,
    ):
        for chunk in imported.read("users", "SELECT * FROM users", CHUNK_RECORDS):
            begin = time.perf_counter()
            empty.insert(chunk)
            seconds += time.perf_counter() - begin
        ((written,),) = empty.fetch("SELECT count(*) FROM users")
    assert written == bench_database.users, (
        f"{written} users of {bench_database.users} were imported"
    )
    return seconds
