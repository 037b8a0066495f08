"""The drivers' errors, by their codes: which pass by themselves, and whose fault the others are.

PostgreSQL tells a SQLSTATE of five characters, of which the first two are its class. SQLite tells
a result code. A code that is in neither table is a defect of ours.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class Fault(Enum):
    """Whose fault an error is, and so who can do something about it."""

    TRANSIENT = auto()
    """Nobody's here. The same work succeeds later: by itself, or when an operator has acted."""

    CALLER = auto()
    """The request's: it is more than the database can take, however often it is repeated."""

    DEFECT = auto()
    """Ours, or the database's own. It must be looked into, and the log has its traceback."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be done about an error. `told` is what callers may read about it.

    `outdates`: connections from before stay in that state when it is over, so new ones are made.
    `refuses`: the database is in a state in which it takes no writes, whoever asks.
    """

    fault: Fault
    told: str = ""
    outdates: bool = False
    refuses: bool = False


_BUSY = Judgement(Fault.TRANSIENT, "the database is busy")
_LOST = Judgement(Fault.TRANSIENT, "the database can't be reached", outdates=True)
_NO_ACCESS = Judgement(Fault.TRANSIENT, "the database refuses access")
_READ_ONLY = Judgement(Fault.TRANSIENT, "the database is read-only", outdates=True, refuses=True)
_FULL = Judgement(Fault.TRANSIENT, "the database's disk is full", refuses=True)
_NO_MEMORY = Judgement(Fault.TRANSIENT, "the database is out of memory", outdates=True)
_BROKEN_DISK = Judgement(Fault.TRANSIENT, "the database's disk fails", outdates=True, refuses=True)
_STOPPED = Judgement(Fault.TRANSIENT, "the database has cancelled the statement")
_CHANGED = Judgement(Fault.TRANSIENT, "the database's schema is changing", outdates=True)
_TOO_LARGE = Judgement(Fault.CALLER, "the request is more than the database can take")
# a connection in an unknown state serves nobody else
_DAMAGED = Judgement(Fault.DEFECT, outdates=True)
_DEFECT = Judgement(Fault.DEFECT)

POSTGRES: Mapping[str, Judgement] = {
    # 08, connection exception: no connection, a lost one, or a pooler between that has none
    "08": _LOST,
    # 0A, feature not supported, is a statement of ours, but for a plan of before a migration: the
    # driver notices that it is outdated, and makes another one for the next execution
    "0A": _DEFECT,
    # 25, invalid transaction state: a statement outside of its transaction is a defect. The three
    # others are made by operators: a read-only database, and time-outs that end the session
    "25": _DAMAGED,
    "25006": _READ_ONLY,
    "25P03": _LOST,
    "25P04": _LOST,
    # 26, invalid SQL statement name: a pooler has given the session to another client
    "26": _LOST,
    # 28 and 3D, refused at connect: a role or database is being changed, restored or renamed
    "28": _NO_ACCESS,
    "3D": _NO_ACCESS,
    # 40, transaction rollback: a lost race, which is over at the next try
    "40": _BUSY,
    # a right that was taken away is given back by an operator, and by no change of the statement
    "42501": _NO_ACCESS,
    # 53, insufficient resources: others have them at the moment, or an operator makes room
    "53": Judgement(Fault.TRANSIENT, "the database lacks resources"),
    "53100": _FULL,
    "53200": _NO_MEMORY,
    "53300": Judgement(Fault.TRANSIENT, "the database has too many connections"),
    # 54, program limit exceeded: the same request exceeds it each time
    "54": _TOO_LARGE,
    # 55, object not in prerequisite state: locked, in use, or a database that takes no connections.
    # A setting that can't be changed now, and a new value of an enum, are statements of ours
    "55": _BUSY,
    "55P02": _DEFECT,
    "55P04": _DEFECT,
    # 57, operator intervention: the server shuts down, crashes, starts, or ends this session.
    # 57014 is a statement that somebody or `statement_timeout` has cancelled
    "57": _LOST,
    "57014": _STOPPED,
    # 58, system error: files and devices below PostgreSQL
    "58": _BROKEN_DISK,
    # XX, internal error: damaged data, or a fault of PostgreSQL's own that no pause mends
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
    # only a caller that has left interrupts a statement
    sqlite3.SQLITE_INTERRUPT: _STOPPED,
    # the disk, and what an operator has made of it: mounted read-only, full, moved, without rights.
    # A connection that was opened on a read-only file stays read-only
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
    # damage: reading further would answer with what is wrong
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}

# asyncpg's own errors have no SQLSTATE, and are known by their names: it need not be installed
_OUTDATED_PLANS = {"InvalidCachedStatementError", "OutdatedSchemaCacheError"}
_LOST_CLIENTS = {"InternalClientError", "ProtocolError", "TargetServerAttributeNotMatched"}
# an InterfaceError's subclasses are about arguments of ours
_CLOSED = "InterfaceError"


def judgement_on(error: BaseException) -> Judgement:
    """By the driver's error, which SQLAlchemy may have wrapped."""
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
    # how Python's driver tells SQLITE_NOMEM
    if isinstance(cause, MemoryError):
        return _NO_MEMORY
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return _LOST
    return _DEFECT


def _driver_error(error: BaseException) -> BaseException:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    # SQLAlchemy's adapter for asyncpg wraps once more
    if type(cause).__module__.startswith("sqlalchemy.dialects.") and cause.__cause__:
        return cause.__cause__
    return cause
