"""Databases that refuse every statement with a code of the test's, until they are let go on."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from chat_store.database.sqlite import engines
from tests.harness.postgres import Postgres

Refuse = Callable[[str], None]
"""With this code, from now on; without one, no more."""

# A stable function beside no column is asked once for each execution, also for an empty table.
_POSTGRES = """
CREATE SCHEMA hidden;
CREATE TABLE hidden.refusal (code text NOT NULL);
CREATE FUNCTION hidden.passes() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE refusal text;
BEGIN
    SELECT code INTO refusal FROM hidden.refusal;
    IF FOUND THEN RAISE EXCEPTION 'refused by the test' USING ERRCODE = refusal; END IF;
    RETURN true;
END $$;
CREATE FUNCTION hidden.guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hidden.passes();
    RETURN NULL;
END $$;
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables
        WHERE schemaname = 'public'
            -- which would look restored behind a view, because a view has another oid
            AND tablename NOT IN ('alembic_version', 'restore_guard')
    LOOP
        EXECUTE format('ALTER TABLE %I SET SCHEMA hidden', name);
        EXECUTE format(
            'CREATE VIEW %I AS SELECT * FROM hidden.%I WHERE hidden.passes()', name, name);
        EXECUTE format('CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON hidden.%I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION hidden.guard()', name);
    END LOOP;
END $$;
"""


def refusing_postgres(postgres: Postgres, database: str) -> Refuse:
    """The database itself raises it, wherever a statement touches a table."""
    postgres.execute(_POSTGRES, database)

    def refuse(code: str) -> None:
        insert = f"INSERT INTO hidden.refusal VALUES ('{code}')" if code else ""
        postgres.execute(f"DELETE FROM hidden.refusal; {insert}", database)

    return refuse


def refusing_sqlite(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """The driver raises it: most of SQLite's codes can't be brought about at will."""
    refusal: list[int] = []

    class Connection(engines._SqliteConnection):
        def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
            if refusal and not statement.startswith(("BEGIN", "ROLLBACK", "PRAGMA")):
                error = sqlite3.DatabaseError("refused by the test")
                error.sqlite_errorcode = refusal[0]
                raise error
            return super().execute(statement, *parameters)

    monkeypatch.setattr(engines, "_SqliteConnection", Connection)

    def refuse(code: str) -> None:
        refusal[:] = [getattr(sqlite3, code)] if code else []

    return refuse
