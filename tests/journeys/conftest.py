import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import nursery
from tests.harness.many_users import insert_users
from tests.harness.postgres import Postgres
from tests.harness.processes import Pair, running_pair

# a lease that a killed server leaves behind is waited for
_SETTINGS = {"HERALD_LEASE_SECONDS": "1"}
_CROWD = 60_000


@dataclass(frozen=True, slots=True)
class Crowd:
    """Both real servers on a database with very many users in it."""

    database_url: str
    users: int
    pair: Pair


@pytest.fixture
def pair(database_url: str, tmp_path: Path) -> Iterator[Pair]:
    """Both real servers, on each kind of database."""
    with running_pair(database_url, tmp_path / "logs", _SETTINGS, nursery.run) as running:
        yield running


@pytest.fixture(scope="session")
def sqlite_crowd(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crowd")
    file = Path(shutil.copy(sqlite_template, folder / "herald.db"))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(insert_users("sqlite", _CROWD))
    return file


@pytest.fixture(scope="session")
def postgres_crowd(postgres: Postgres) -> str:
    name = postgres.fresh_database()
    postgres.execute(insert_users("postgresql", _CROWD), name)
    postgres.execute("VACUUM ANALYZE", name)
    return name


@pytest.fixture
def crowded_sqlite_url(sqlite_crowd: Path, tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{shutil.copy(sqlite_crowd, tmp_path / 'herald.db')}"


@pytest.fixture
def crowded_postgres_url(postgres: Postgres, postgres_crowd: str) -> Iterator[str]:
    name = postgres.fresh_database(postgres_crowd)
    yield postgres.url(name)
    postgres.drop_database(name)


# one worker makes the crowd of a database, and has all the tests that want it
@pytest.fixture(
    params=[
        pytest.param(kind, marks=pytest.mark.xdist_group(f"crowd in {kind}"))
        for kind in ("sqlite", "postgres")
    ]
)
def crowd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Crowd]:
    url: str = request.getfixturevalue(f"crowded_{request.param}_url")
    with running_pair(url, tmp_path / "logs", _SETTINGS, nursery.run) as running:
        yield Crowd(url, _CROWD, running)
