"""Databases that refuse: PostgreSQL by each of its error classes, SQLite by a lock that is held."""

import asyncio
import random
import sqlite3
from contextlib import closing

import asyncpg
from sqlalchemy.engine import make_url

from chat_store.database.errors import POSTGRES, Fault
from tests.faults.cluster import Cluster

# what passes by itself; a class stands for its first code
PASSING = sorted(
    code.ljust(5, "0") for code, judgement in POSTGRES.items() if judgement.fault is Fault.TRANSIENT
)
_TABLES = ("messages", "campaigns", "campaign_shards", "segment_targets")
# a sequence is not rolled back: it counts what was refused
_REFUSE = """
CREATE SEQUENCE refusals;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM nextval('refusals');
    RAISE EXCEPTION 'refused' USING ERRCODE = '{code}';
END $$;
"""
_REFUSE_WRITES = """
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION refuse();
"""
_ALLOW = "DROP FUNCTION refuse() CASCADE; DROP SEQUENCE refusals;"


async def refuse_writes(cluster: Cluster, choose: random.Random) -> None:
    url = make_url(cluster.database_url).set(drivername="postgresql")
    for _ in range(3):
        if await cluster.over_within(choose.uniform(0.1, 0.6)):
            return
        try:
            connection = await asyncpg.connect(url.render_as_string(hide_password=False))
        except (OSError, asyncpg.PostgresError):
            continue  # another fault has the database
        try:
            statements = "".join(_REFUSE_WRITES.format(table=table) for table in _TABLES)
            refuse = _REFUSE.format(code=choose.choice(PASSING)) + statements
            await _unless_deadlocked(connection, refuse)
            await cluster.over_within(choose.uniform(0.3, 1.5))
            called = await connection.fetchval("SELECT is_called FROM refusals")
            await _unless_deadlocked(connection, _ALLOW)
            cluster.fired["refuse-writes"] += bool(called)
        finally:
            connection.terminate()


async def _unless_deadlocked(connection: asyncpg.Connection, statements: str) -> None:
    """Its locks on the tables come in another order than those of the pages in progress."""
    while True:
        try:
            await connection.execute(statements)
        except asyncpg.DeadlockDetectedError:
            continue
        return


async def lock_sqlite(cluster: Cluster, choose: random.Random) -> None:
    """Somebody else's transaction has the write lock."""
    for _ in range(2):
        if await cluster.over_within(choose.uniform(0.1, 0.6)):
            return
        file = str(make_url(cluster.database_url).database)
        with closing(sqlite3.connect(file, timeout=5, check_same_thread=False)) as connection:
            try:
                await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                continue
            over = await cluster.over_within(choose.uniform(0.5, 3.0))
            cluster.fired["lock-sqlite"] += not over
