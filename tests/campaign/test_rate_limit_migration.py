"""Limits that are in use while the schema is migrated go on as if nothing had happened."""

from collections.abc import AsyncIterator
from datetime import timedelta
from importlib import resources
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from campaign_service.storage.ports import GLOBAL_LIMIT
from campaign_service.storage.runs import SqlRunStore
from chat_store.database import schema
from chat_store.database.columns import to_microseconds
from chat_store.database.engine import Database, open_database
from tests.campaign.builders import MOMENT
from tests.harness.postgres import Postgres

REVISION = "0010"
LIMITS = {GLOBAL_LIMIT: 100, "spring": 10}


def upgrade_to_the_revision_before(connection: Connection) -> None:
    config = Config()
    migrations = resources.files("chat_store.database") / "migrations"
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    before = ScriptDirectory.from_config(config).get_revision(REVISION).down_revision
    assert isinstance(before, str)
    command.upgrade(config, before)


@pytest.fixture(params=["sqlite", "postgresql"])
async def with_running_limits(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Database]:
    """A database of the revision before, whose limits are reserved for seconds to come."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'old.db'}"
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.url(postgres.fresh_database("template0"))
    database = open_database(url)
    rows = [
        ("spring", MOMENT + timedelta(seconds=5), MOMENT),
        (GLOBAL_LIMIT, MOMENT, MOMENT + timedelta(seconds=2)),
    ]
    async with database.transaction() as connection:
        await connection.run_sync(upgrade_to_the_revision_before)
        for id_, due, soonest in rows:
            await connection.execute(
                text("INSERT INTO campaign_paces VALUES (:id, :due, :soonest)"),
                {"id": id_, "due": to_microseconds(due), "soonest": to_microseconds(soonest)},
            )
    yield database
    await database.close()


@pytest.mark.nightly_on("postgresql")
@pytest.mark.parametrize(
    ("limited", "seconds"), [("spring", 5), (GLOBAL_LIMIT, 2)], ids=["a campaign", "all campaigns"]
)
async def test_a_limit_in_use_is_kept_over_the_migration(
    with_running_limits: Database, limited: str, seconds: int
) -> None:
    await schema.migrate(with_running_limits)

    reservation = await SqlRunStore(with_running_limits).reserve(
        {limited: LIMITS[limited]}, 1, MOMENT, MOMENT
    )

    assert reservation.not_before == MOMENT + timedelta(seconds=seconds)


@pytest.mark.nightly_on("postgresql")
async def test_the_migration_leaves_nothing_of_the_old_table(with_running_limits: Database) -> None:
    await schema.migrate(with_running_limits)

    tables = (
        "SELECT name FROM sqlite_master"
        if with_running_limits.dialect == "sqlite"
        else "SELECT relname FROM pg_class"
    )
    async with with_running_limits.snapshot() as connection:
        names = set(await connection.scalars(text(tables)))
        kept = await connection.scalar(text("SELECT count(*) FROM rate_limits"))
    assert not [name for name in names if "paces" in name]
    assert kept == 2
