import gc
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from chat_store.database.engine import Database, open_database
from tests.harness import compiled_statements
from tests.harness.canary_plugin import (  # noqa: F401 - hooks
    pytest_configure,
    pytest_runtest_makereport,
)
from tests.harness.not_tested import pytest_terminal_summary  # noqa: F401 - a hook
from tests.harness.postgres import FAST_AND_UNSAFE, Postgres, migrated, temporary_postgres

MEMORY, MEMORY_BYTES = Path("/dev/shm"), 4 * 2**30  # noqa: S108 - pytest makes its own folder there

# gRPC's threads of this process would crash the copy of it that becomes a PostgreSQL
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
# Each commit waits 1 to 4 ms for a disk. Memory keeps as much of a process that is killed.
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

compiled_statements.share()

settings.register_profile(
    "herald",
    max_examples=int(os.environ.get("TEST_EXAMPLES", "5")),
    deadline=None,
    derandomize="CI" in os.environ,
    # a database a test is shared by its examples, which know that
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("herald")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        words = {word for mark in item.iter_markers("nightly_on") for word in mark.args}
        case = item.name.removeprefix(getattr(item, "originalname", item.name))
        if any(word in case for word in words) or item.get_closest_marker("alone"):
            item.add_marker(pytest.mark.nightly)
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.property)
    # so that no process has a long one left when the others are done
    items.sort(key=_longest_seconds, reverse=True)


def _longest_seconds(item: pytest.Item) -> float:
    limit = item.get_closest_marker("timeout")
    return limit.args[0] if limit else 0


def pytest_collection_finish(session: pytest.Session) -> None:
    grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
    if "PYTEST_XDIST_WORKER" in os.environ and any("@" not in item.nodeid for item in grouped):
        raise pytest.UsageError("several processes need --dist loadgroup, which keeps groups")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """The collector of garbage walks through the modules and tests neither now nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with temporary_postgres(FAST_AND_UNSAFE) as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("template") / "herald.db"
    migrated(f"sqlite+aiosqlite:///{file}")
    return file


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated, empty SQLite database."""
    file = shutil.copy(sqlite_template, tmp_path / "herald.db")
    return f"sqlite+aiosqlite:///{file}"


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A migrated, empty PostgreSQL database."""
    name = postgres.fresh_database()
    yield postgres.url(name)
    postgres.recycle(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated, empty database of each kind."""
    kind = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(kind)
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The same, open."""
    opened = open_database(database_url)
    yield opened
    await opened.close()
