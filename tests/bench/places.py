"""Where to measure: databases of each kind with the users in them, as many as wanted."""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from pathlib import Path

from tests.harness.main_job import import_people
from tests.harness.postgres import Postgres, migrated, temporary_postgres

# what the server's own default is
PAGE_SIZE = 1_000


class Kind(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True)
class Place:
    """`fresh` makes one more migrated database that holds the users, and nothing else."""

    kind: Kind
    users: int
    folder: Path
    fresh: Callable[[], str]


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
        if kind is Kind.SQLITE:
            yield Place(kind, users, folder, _sqlite(folder, users))
        else:
            with temporary_postgres() as postgres:
                yield Place(kind, users, folder, _postgres(postgres, folder, users))
    finally:
        shutil.rmtree(folder)


def _sqlite(folder: Path, users: int) -> Callable[[], str]:
    template = folder / "template.db"
    migrated(_sqlite_url(template))
    import_people(_sqlite_url(template), folder / "users.jsonl", users)
    numbers = count(1)

    def fresh() -> str:
        file = folder / f"herald_{next(numbers)}.db"
        with closing(sqlite3.connect(template)) as source, closing(sqlite3.connect(file)) as copy:
            source.backup(copy)
        return _sqlite_url(file)

    return fresh


def _postgres(postgres: Postgres, folder: Path, users: int) -> Callable[[], str]:
    template = postgres.fresh_database()
    import_people(postgres.url(template), folder / "users.jsonl", users)
    # as autovacuum would have done by the time of a campaign
    postgres.execute("VACUUM ANALYZE", template)

    def fresh() -> str:
        name = postgres.fresh_database(template)
        # what was written before is not to be paid for during a measurement
        postgres.execute("CHECKPOINT")
        return postgres.url(name)

    return fresh


def _sqlite_url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"
