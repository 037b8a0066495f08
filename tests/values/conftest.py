import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.harness.postgres import Postgres
from tests.values.everything import PLACES, Everything, everything_on


@pytest.fixture(params=PLACES, ids=" in ".join)
def zoned_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated, empty database in a time zone of its own, which this process shares."""
    kind, zone = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        if kind == "sqlite":
            yield request.getfixturevalue("sqlite_url")
        else:
            postgres: Postgres = request.getfixturevalue("postgres")
            name = postgres.fresh_database()
            postgres.execute(f"ALTER DATABASE {name} SET timezone = '{zone}'")
            yield postgres.url(name)
            postgres.drop_database(name)
    time.tzset()


@pytest.fixture
async def everything(zoned_url: str) -> AsyncIterator[Everything]:
    async with everything_on(zoned_url) as running:
        yield running
