"""Where to measure: databases of each kind with the users in them, as many as wanted."""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import count, islice
from pathlib import Path

from tests.bench.population import population
from tests.harness.main_job import import_file
from tests.harness.postgres import Postgres, migrated, temporary_postgres
from tests.people import write_people

# what the server's own default is
PAGE_SIZE = 1_000


class Kind(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True)
class Place:
    """`fresh` makes one more migrated database that holds the users, and nothing else.

    One that `empty` makes doesn't hold them either. `import_seconds` is what it took to get them
    into the first one.
    """

    kind: Kind
    users: int
    folder: Path
    import_seconds: float
    fresh: Callable[[], str]
    empty: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One measured value, ready to print."""

    what: str
    value: str
    remark: str = ""


@contextmanager
def open_place(kind: Kind, users: int) -> Iterator[Place]:
    """In the system's temporary folder, with production's durability."""
    folder = Path(tempfile.mkdtemp(prefix="herald-bench-"))
    try:
        file = folder / "users.jsonl"
        write_people(file, islice(population(), users))
        if kind is Kind.SQLITE:
            yield _sqlite(file, users)
        else:
            with temporary_postgres() as postgres:
                yield _postgres(postgres, file, users)
    finally:
        shutil.rmtree(folder)


def _sqlite(people: Path, users: int) -> Place:
    folder = people.parent
    numbers = count(1)

    def empty() -> str:
        url = _sqlite_url(folder / f"herald_{next(numbers)}.db")
        migrated(url)
        return url

    template = folder / "template.db"
    migrated(_sqlite_url(template))
    import_seconds = _imported(_sqlite_url(template), people)

    def fresh() -> str:
        file = folder / f"herald_{next(numbers)}.db"
        with closing(sqlite3.connect(template)) as source, closing(sqlite3.connect(file)) as copy:
            source.backup(copy)
        return _sqlite_url(file)

    return Place(Kind.SQLITE, users, folder, import_seconds, fresh, empty)


def _postgres(postgres: Postgres, people: Path, users: int) -> Place:
    def made(template: str = "") -> str:
        name = postgres.fresh_database(template)
        # what was written before is not to be paid for during a measurement
        postgres.execute("CHECKPOINT")
        return postgres.url(name)

    template = postgres.fresh_database()
    import_seconds = _imported(postgres.url(template), people)
    # as autovacuum would have done by the time of a campaign
    postgres.execute("VACUUM ANALYZE", template)
    return Place(
        Kind.POSTGRESQL, users, people.parent, import_seconds, partial(made, template), made
    )


def _imported(database_url: str, people: Path) -> float:
    begin = time.perf_counter()
    import_file(database_url, people)
    return time.perf_counter() - begin


def _sqlite_url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"
