"""Classifies the drivers' errors by code: which pass by themselves, and who causes the others.

PostgreSQL reports a SQLSTATE of five characters, of which the first two are its class. SQLite
reports a result code. A code in neither table is a defect of Herald.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class Fault(Enum):
    """The cause of an error, which decides who can mend it."""

    TRANSIENT = auto()
    """The environment. The same work succeeds later: by itself, or after an operator acts."""

    CALLER = auto()
    """The request. It exceeds what the database can take, however often it is repeated."""

    DEFECT = auto()
    """Herald or the database itself. The log has the traceback, and it must be investigated."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """How to treat an error. `caller_text` is the text that callers may see.

    `outdates`: older connections stay broken after the error has passed, so they are replaced.
    `refuses`: the database takes no writes from anybody.
    """

    fault: Fault
    caller_text: str = ""
    outdates: bool = False
    refuses: bool = False


_BUSY = Judgement(Fault.TRANSIENT, "the database is busy")
_LOST = Judgement(Fault.TRANSIENT, "the database can't be reached", outdates=True)
_NO_ACCESS = Judgement(Fault.TRANSIENT, "the database refuses access")
_READ_ONLY = Judgement(Fault.TRANSIENT, "the database is read-only", outdates=True, refuses=True)
_FULL = Judgement(Fault.TRANSIENT, "the database's disk is full", refuses=True)
_NO_MEMORY = Judgement(Fault.TRANSIENT, "the database is out of memory", outdates=True)
_BROKEN_DISK = Judgement(Fault.TRANSIENT, "the database's disk fails", outdates=True, refuses=True)
_STOPPED = Judgement(Fault.TRANSIENT, "the database cancelled the statement")
_CHANGED = Judgement(Fault.TRANSIENT, "the database's schema is changing", outdates=True)
_TOO_LARGE = Judgement(Fault.CALLER, "the request exceeds what the database can take")
# a connection in an unknown state is not used again
_DAMAGED = Judgement(Fault.DEFECT, outdates=True)
_DEFECT = Judgement(Fault.DEFECT)

POSTGRES: Mapping[str, Judgement] = {
    # 08, connection exception: no connection, a lost one, or a pooler between that has none
    "08": _LOST,
    # 0A, feature not supported: a statement of ours. The exception is a plan from before a
    # migration, which the driver recognizes as outdated and replaces at the next execution
    "0A": _DEFECT,
    # 25, invalid transaction state: a statement outside its transaction is a defect. Operators
    # cause the other three: a read-only database, and time-outs that end the session
    "25": _DAMAGED,
    "25006": _READ_ONLY,
    "25P03": _LOST,
    "25P04": _LOST,
    # 26, invalid SQL statement name: a pooler has given the session to another client
    "26": _LOST,
    # 28 and 3D, refused at connect: a role or database is being changed, restored or renamed
    "28": _NO_ACCESS,
    "3D": _NO_ACCESS,
    # 40, transaction rollback: a lost race; a retry succeeds
    "40": _BUSY,
    # 42501, insufficient privilege: only an operator can grant it again
    "42501": _NO_ACCESS,
    # 53, insufficient resources: in use at the moment, or an operator must add some
    "53": Judgement(Fault.TRANSIENT, "the database lacks resources"),
    "53100": _FULL,
    "53200": _NO_MEMORY,
    "53300": Judgement(Fault.TRANSIENT, "the database has too many connections"),
    # 54, program limit exceeded: the same request exceeds it every time
    "54": _TOO_LARGE,
    # 55, object not in prerequisite state: locked, in use, or a database that takes no connections.
    # A setting that can't be changed now, and a new value of an enum, are statements of ours
    "55": _BUSY,
    "55P02": _DEFECT,
    "55P04": _DEFECT,
    # 57, operator intervention: the server shuts down, crashes, starts, or ends this session.
    # 57014: somebody or `statement_timeout` cancelled the statement
    "57": _LOST,
    "57014": _STOPPED,
    # 58, system error: files and devices below PostgreSQL
    "58": _BROKEN_DISK,
    # XX, internal error: damaged data, or a defect of PostgreSQL; waiting does not help
    "XX": _DAMAGED,
}

SQLITE: Mapping[int, Judgement] = {
    # another connection writes, recovers the file or changes its mode
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PROTOCOL: _BUSY,
    # the schema has changed, or another statement of the connection has rolled back
    sqlite3.SQLITE_SCHEMA: _CHANGED,
    sqlite3.SQLITE_ABORT: _BUSY,
    # statements are interrupted only when their caller has left
    sqlite3.SQLITE_INTERRUPT: _STOPPED,
    # the state of the disk: mounted read-only, full, moved, without permissions. A connection
    # that was opened on a read-only file stays read-only
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _BROKEN_DISK,
    sqlite3.SQLITE_NOLFS: _BROKEN_DISK,
    sqlite3.SQLITE_CANTOPEN: _LOST,
    sqlite3.SQLITE_PERM: _NO_ACCESS,
    sqlite3.SQLITE_AUTH: _NO_ACCESS,
    sqlite3.SQLITE_NOMEM: _NO_MEMORY,
    # a value or a row of more than 1,000,000,000 bytes
    sqlite3.SQLITE_TOOBIG: _TOO_LARGE,
    # damage: reading on would return wrong data
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}

# asyncpg's own errors have no SQLSTATE. They are listed by name, as asyncpg may be missing
_OUTDATED_PLANS = {"InvalidCachedStatementError", "OutdatedSchemaCacheError"}
_LOST_CLIENTS = {"InternalClientError", "ProtocolError", "TargetServerAttributeNotMatched"}
# the exact class only: subclasses of InterfaceError report wrong arguments of ours
_CLOSED = "InterfaceError"


def judgement_on(error: BaseException) -> Judgement:
    """Judges the driver's error, which SQLAlchemy may have wrapped."""
    cause = _driver_error(error)
    from_asyncpg = type(cause).__module__.startswith("asyncpg.")
    name = type(cause).__name__ if from_asyncpg else ""
    if name in _OUTDATED_PLANS:
        return _CHANGED
    if sqlstate := getattr(cause, "sqlstate", None):
        return POSTGRES.get(sqlstate) or POSTGRES.get(sqlstate[:2], _DEFECT)
    if code := getattr(cause, "sqlite_errorcode", None):
        return SQLITE.get(code & 0xFF, _DEFECT)
    if isinstance(cause, PoolTimeoutError):
        return _BUSY
    if isinstance(cause, OSError) or name in _LOST_CLIENTS or name == _CLOSED:
        return _LOST
    # how Python's driver reports SQLITE_NOMEM
    if isinstance(cause, MemoryError):
        return _NO_MEMORY
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return _LOST
    return _DEFECT


def _driver_error(error: BaseException) -> BaseException:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    # SQLAlchemy's adapter for asyncpg wraps it a second time
    if type(cause).__module__.startswith("sqlalchemy.dialects.") and cause.__cause__:
        return cause.__cause__
    return cause
