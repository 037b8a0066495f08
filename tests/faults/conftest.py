from collections.abc import Iterator

import pytest

from tests.faults.cluster import RestartablePostgres, restartable_postgres
from tests.faults.fault_runner import FaultRunner


@pytest.fixture(scope="session")
def mortal_postgres() -> Iterator[RestartablePostgres]:
    """One that these tests may kill: the others have theirs to themselves."""
    with restartable_postgres() as postgres:
        yield postgres


@pytest.fixture(scope="session")
def sqlite_playground(tmp_path_factory: pytest.TempPathFactory) -> FaultRunner:
    return FaultRunner(tmp_path_factory.mktemp("faults"), None)


@pytest.fixture(scope="session")
def postgres_playground(
    mortal_postgres: RestartablePostgres, tmp_path_factory: pytest.TempPathFactory
) -> FaultRunner:
    return FaultRunner(tmp_path_factory.mktemp("faults"), mortal_postgres)
