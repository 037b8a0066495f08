"""Where to measure: databases of each kind with the users in them, as many as wanted."""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import count, islice
from pathlib import Path

from tests.bench.population import population
from tests.harness.hello_campaign import import_file
from tests.harness.postgres import Postgres, migrated, temporary_postgres
from tests.harness.sample_users import write_people

# what the server's own default is
PAGE_SIZE = 1_000


class Kind(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True)
class BenchDatabase:
    """`fresh` makes one more migrated database that holds the users, and nothing else.

    One that `empty` makes doesn't hold them either. `import_seconds` tells what it took to get
    them into the first one, which is made when it is first needed.
    """

    kind: Kind
    users: int
    folder: Path
    import_seconds: Callable[[], float]
    fresh: Callable[[], str]
    empty: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One measured value, ready to print."""

    what: str
    value: str
    remark: str = ""


@contextmanager
def open_bench_database(kind: Kind, users: int) -> Iterator[BenchDatabase]:
    """In the system's temporary folder, with production's durability."""
    folder = Path(tempfile.mkdtemp(prefix="herald-bench-"))
    try:
        if kind is Kind.SQLITE:
            yield _sqlite(folder, users)
        else:
            with temporary_postgres() as postgres:
                yield _postgres(postgres, folder, users)
    finally:
        shutil.rmtree(folder)


def _sqlite(folder: Path, users: int) -> BenchDatabase:
    numbers = count(1)
    template = folder / "template.db"

    def empty() -> str:
        url = _sqlite_url(folder / f"herald_{next(numbers)}.db")
        migrated(url)
        return url

    @cache
    def import_seconds() -> float:
        url = _sqlite_url(template)
        migrated(url)
        return _import(url, folder, users)

    def fresh() -> str:
        import_seconds()
        file = folder / f"herald_{next(numbers)}.db"
        with closing(sqlite3.connect(template)) as source, closing(sqlite3.connect(file)) as copy:
            source.backup(copy)
        return _sqlite_url(file)

    return BenchDatabase(Kind.SQLITE, users, folder, import_seconds, fresh, empty)


def _postgres(postgres: Postgres, folder: Path, users: int) -> BenchDatabase:
    def made(template: str = "") -> str:
        name = postgres.fresh_database(template)
        # what was written before is not to be paid for during a measurement
        postgres.execute("CHECKPOINT")
        return postgres.url(name)

    @cache
    def template() -> tuple[str, float]:
        name = postgres.fresh_database()
        seconds = _import(postgres.url(name), folder, users)
        # as autovacuum would have done by the time of a campaign
        postgres.execute("VACUUM ANALYZE", name)
        return name, seconds

    def import_seconds() -> float:
        _, seconds = template()
        return seconds

    def fresh() -> str:
        name, _ = template()
        return made(name)

    return BenchDatabase(Kind.POSTGRESQL, users, folder, import_seconds, fresh, made)


def _import(database_url: str, folder: Path, users: int) -> float:
    file = folder / "users.jsonl"
    write_people(file, islice(population(), users))
    begin = time.perf_counter()
    import_file(database_url, file)
    return time.perf_counter() - begin


def _sqlite_url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"
