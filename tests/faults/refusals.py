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
_ALLOW = "DROP FUNCTION IF EXISTS refuse() CASCADE; DROP SEQUENCE IF EXISTS refusals;"
# null if there was none, and nothing if another attempt has got through after all
_REFUSED = "SELECT last_value FROM pg_sequences WHERE sequencename = 'refusals'"


async def refuse_writes(cluster: Cluster, choose: random.Random) -> None:
    url = make_url(cluster.database_url).set(drivername="postgresql")
    database = url.render_as_string(hide_password=False)
    for _ in range(3):
        if await cluster.over_within(choose.uniform(0.1, 0.6)):
            return
        statements = "".join(_REFUSE_WRITES.format(table=table) for table in _TABLES)
        refuse = _ALLOW + _REFUSE.format(code=choose.choice(PASSING)) + statements
        await _insisted(database, refuse)
        await cluster.over_within(choose.uniform(0.3, 1.5))
        called = await _insisted(database, _ALLOW, asking=_REFUSED)
        cluster.fired["refuse-writes"] += bool(called)


async def _insisted(database: str, statements: str, asking: str = "SELECT 1") -> object:
    """Executes the statements whatever other faults do to the database meanwhile.

    Their locks on the tables come in another order than those of the pages in progress: some
    attempts end in a deadlock.
    """
    while True:
        try:
            connection = await asyncpg.connect(database)
            try:
                answer: object = await connection.fetchval(asking)
                await connection.execute(statements)
            finally:
                connection.terminate()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(0.05)
        else:
            return answer


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
