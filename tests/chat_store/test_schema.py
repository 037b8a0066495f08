import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Index, MetaData, text

from campaign_service.storage import event_tables
from campaign_service.storage import tables as campaign_tables
from chat_store.access import tables as access_tables
from chat_store.audit import tables as audit_tables
from chat_store.database import schema
from chat_store.database.engine import Database, open_database
from chat_store.errors import DatabaseEncodingError, SchemaMismatchError
from chat_store.sql import tables as chat_tables
from segment_service.sql import tables as segment_tables
from tests.harness import forkserver
from tests.harness.postgres import Postgres

MIGRATIONS = resources.files("chat_store.database") / "migrations"


@pytest.fixture
async def migrated(database_url: str) -> AsyncIterator[Database]:
    database = open_database(database_url)
    yield database
    await database.close()


def differences(connection: Connection) -> list[object]:
    every = MetaData()
    for tables in (
        chat_tables,
        segment_tables,
        campaign_tables,
        event_tables,
        access_tables,
        audit_tables,
    ):
        for table in tables.metadata.tables.values():
            table.to_metadata(every)

    def is_comparable(item: object, *_: object) -> bool:
        # SQLite has no GIN, and doesn't tell in what direction an index goes
        only_named = {"users_by_created_at", "channels_by_created_at"}
        return connection.dialect.name == "postgresql" or not (
            isinstance(item, Index)
            and (item.dialect_options["postgresql"]["using"] or item.name in only_named)
        )

    options = {"compare_type": True, "include_object": is_comparable}
    context = MigrationContext.configure(connection, opts=options)
    found: list[object] = compare_metadata(context, every)
    return found


async def set_revision(database: Database, revision: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision}
        )


async def test_the_migrations_make_exactly_the_tables(migrated: Database) -> None:
    async with migrated.snapshot() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_channel_has_room_beside_it_for_what_the_next_message_makes_of_it(
    postgres_url: str,
) -> None:
    database = open_database(postgres_url)
    async with database.snapshot() as connection:
        options = await connection.scalar(
            text("SELECT reloptions FROM pg_class WHERE relname = 'channels'")
        )
    await database.close()

    assert options == ["fillfactor=50"]


async def test_migrating_twice_is_migrating_once(migrated: Database) -> None:
    await schema.migrate(migrated)

    await schema.require_current_schema(migrated)


@pytest.mark.parametrize(
    ("revision", "advice"),
    [("0001", "herald migrate"), ("9999", "is newer than this version")],
)
async def test_another_revision_is_refused_by_name(
    migrated: Database, revision: str, advice: str
) -> None:
    await set_revision(migrated, revision)

    with pytest.raises(SchemaMismatchError, match=advice) as caught:
        await schema.require_current_schema(migrated)

    assert (caught.value.found, caught.value.expected) == (revision, schema.expected_revision())


async def test_an_empty_postgresql_is_refused(postgres_url: str) -> None:
    database = open_database(postgres_url)
    async with database.transaction() as connection:
        await connection.execute(text("DROP TABLE alembic_version"))

    with pytest.raises(SchemaMismatchError) as caught:
        await schema.prepare(database)

    assert caught.value.found is None
    await database.close()


async def test_an_empty_sqlite_file_migrates_itself(tmp_path: Path) -> None:
    database = open_database(f"sqlite+aiosqlite:///{tmp_path}/deep/down/new.db")

    await schema.prepare(database)

    await schema.require_current_schema(database)
    async with database.snapshot() as connection:
        assert await connection.run_sync(differences) == []
    await database.close()


async def test_an_sqlite_file_of_a_later_version_is_refused(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    await set_revision(database, "9999")

    with pytest.raises(SchemaMismatchError, match="9999: the database is newer"):
        await schema.prepare(database)
    await database.close()


@pytest.fixture(params=["SQL_ASCII", "LATIN1", "EUC_JP", "UTF-16le", "UTF-16be"])
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The URL of an empty database in another encoding than UTF-8, and the encoding's name."""
    encoding: str = request.param
    if encoding.startswith("UTF"):
        file = tmp_path / "herald.db"
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(f"PRAGMA encoding = '{encoding}'")
            connection.execute("CREATE TABLE alembic_version (version_num)")
        yield f"sqlite:///{file}", encoding
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = f"in_{encoding.lower()}"
    postgres.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    yield postgres.url(name), encoding
    postgres.drop_database(name)


@pytest.mark.nightly
def test_a_database_in_another_encoding_than_utf8_is_refused_by_name(
    foreign: tuple[str, str], tmp_path: Path
) -> None:
    url, encoding = foreign
    migration = forkserver.completed("chat_store", "migrate", "--database-url", url)
    starts = []
    for module in ("segment_service", "campaign_service"):
        log = tmp_path / f"{module}.log"
        settings = {
            "HERALD_DATABASE_URL": url,
            "HERALD_SEGMENT_LISTEN": "127.0.0.1:0",
            "HERALD_CAMPAIGN_LISTEN": "127.0.0.1:0",
        }
        process = forkserver.run(module, settings, log)
        starts.append((process.wait(60), log.read_text()))

    assert (migration.returncode, migration.stdout) == (2, "")
    assert f"the database's encoding is {encoding}, Herald needs UTF-8" in migration.stderr
    for code, log_text in starts:
        assert code == 1
        assert f"the database's encoding is {encoding}, Herald needs UTF-8" in log_text
        assert "Traceback" not in log_text


async def test_a_migrated_database_that_comes_back_in_another_encoding_is_refused(
    postgres: Postgres,
) -> None:
    """As a dump that is restored into a database made without a word about its encoding."""
    postgres.execute("CREATE DATABASE restored ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    database = open_database(postgres.url("restored"))
    async with database.transaction() as connection:
        await connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
    await set_first_revision(database)

    with pytest.raises(DatabaseEncodingError, match="SQL_ASCII"):
        await schema.prepare(database)

    await database.close()
    postgres.drop_database("restored")


async def set_first_revision(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            text("INSERT INTO alembic_version VALUES (:revision)"),
            {"revision": schema.expected_revision()},
        )


@pytest.fixture(params=["sqlite", "postgresql"])
async def before_changes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database of the last revision that kept no changes, with a campaign in it."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'old.db'}"
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.url(postgres.fresh_database("template0"))
    database = open_database(url)
    now = "1" if request.param == "sqlite" else "now()"
    async with database.transaction() as connection:
        await connection.run_sync(lambda sync: upgrade(sync, "0004"))
        for statement in (
            f"""INSERT INTO campaigns (id, name, description, status, status_reason, sender_id,
                segment_ids, to_channels, message_template, create_channels, show_channels,
                skip_push, skip_webhook, max_messages_per_second, targets_total, revision,
                created_at, updated_at)
            VALUES ('spring', '', '', 'stopped', '', 'acme', '[]', false, '{{}}', true, false,
                false, false, 0, 9, 3, {now}, {now})""",
            """INSERT INTO campaign_shards (campaign_id, shard, shard_count, pass_number,
                audience_version, cursor, finished, fence, messages_sent, channels_created,
                targets_skipped, targets_failed)
            VALUES ('spring', 0, 1, 1, '', '', false, 1, 4, 3, 2, 1)""",
        ):
            await connection.execute(text(statement))
    yield database
    await database.close()


def upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def test_a_campaign_of_before_is_kept_as_it_is_when_changes_begin(
    before_changes: Database,
) -> None:
    await schema.migrate(before_changes)

    async with before_changes.snapshot() as connection:
        kept = await connection.execute(
            text("SELECT id, revision, status, messages_sent, targets_failed FROM campaign_changes")
        )
        assert [tuple(row) for row in kept] == [("spring", 3, "stopped", 4, 1)]
