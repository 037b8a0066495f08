import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import forkserver
from tests.harness.bulk_users import insert_users
from tests.harness.postgres import Postgres
from tests.harness.processes import Pair, running_pair

# a lease that a killed server leaves behind is waited for
_SETTINGS = {"HERALD_LEASE_SECONDS": "1"}
_CROWD = 60_000


@dataclass(frozen=True, slots=True)
class LargeUserBase:
    """Both real servers on a database with very many users in it."""

    database_url: str
    users: int
    pair: Pair


@pytest.fixture
def pair(database_url: str, tmp_path: Path) -> Iterator[Pair]:
    """Both real servers, on each kind of database."""
    with running_pair(database_url, tmp_path / "logs", _SETTINGS, forkserver.run) as running:
        yield running


@pytest.fixture(scope="session")
def large_sqlite_file(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large_base")
    file = Path(shutil.copy(sqlite_template, folder / "herald.db"))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(insert_users("sqlite", _CROWD))
    return file


@pytest.fixture(scope="session")
def large_postgres_database(postgres: Postgres) -> str:
    name = postgres.fresh_database()
    postgres.execute(insert_users("postgresql", _CROWD), name)
    postgres.execute("VACUUM ANALYZE", name)
    return name


@pytest.fixture
def large_sqlite_url(large_sqlite_file: Path, tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{shutil.copy(large_sqlite_file, tmp_path / 'herald.db')}"


@pytest.fixture
def large_postgres_url(postgres: Postgres, large_postgres_database: str) -> Iterator[str]:
    name = postgres.fresh_database(large_postgres_database)
    yield postgres.url(name)
    postgres.drop_database(name)


# one worker makes the crowd of a database, and has all the tests that want it
@pytest.fixture(
    params=[
        pytest.param(kind, marks=pytest.mark.xdist_group(f"large user base in {kind}"))
        for kind in ("sqlite", "postgres")
    ]
)
def large_base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LargeUserBase]:
    url: str = request.getfixturevalue(f"large_{request.param}_url")
    with running_pair(url, tmp_path / "logs", _SETTINGS, forkserver.run) as running:
        yield LargeUserBase(url, _CROWD, running)
