"""Users in SQL."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.audit.entries import AuditedChange, resource_of
from chat_store.audit.recording import record
from chat_store.database.bulk.arrays import prepared_columns, tuples_of
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.bulk.prepared import prepared_once
from chat_store.database.bulk.row_locks import lock_rows
from chat_store.database.bulk.row_sources import in_keys, inline_rows, key_parameters
from chat_store.database.coalescing import MAX_SMALL, Coalescer
from chat_store.database.columns import Key
from chat_store.database.engine import Database, DialectName
from chat_store.errors import InvalidInputError, UserNotFoundError
from chat_store.filters.predicates import Predicate
from chat_store.models import PickedUser, User, UserState, WriteMode
from chat_store.paging import Page, PageRequest
from chat_store.sql.filters import USER_BINDING
from chat_store.sql.paging import fetch_page
from chat_store.sql.tables import users

_NAMES = tuple(field.name for field in fields(User))
COLUMNS = tuple(users.c[name] for name in _NAMES)
# set only by the service itself, or by an import with a history
_LIFECYCLE_TIMES = ("last_active", "deactivated_at", "deleted_at")

_STATE = case(
    (users.c.deleted_at.is_not(None), UserState.DELETED.value),
    (users.c.deactivated_at.is_not(None), UserState.DEACTIVATED.value),
    else_=UserState.ACTIVE.value,
)
_STATES = tuple(UserState)


@dataclass(frozen=True, slots=True)
class _Upsert:
    users: Sequence[User]
    now: datetime
    mode: WriteMode
    change: AuditedChange


class SqlUserStore:
    """See `chat_store.store.UserStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reads = Coalescer(self._found)
        self._writes = Coalescer(
            self._upserted,
            scope_of=lambda upsert: upsert.mode,
            keys_of=lambda upsert: [user.id for user in upsert.users],
        )

    async def upsert(
        self, given: Sequence[User], now: datetime, mode: WriteMode = WriteMode.REPLACE
    ) -> list[User]:
        # made here, because a group is written for several callers
        change = AuditedChange(resource_of("users", [user.id for user in given]))
        upsert = _Upsert(given, now, mode, change)
        if len(given) > MAX_SMALL:
            (stored,) = await self._upserted([upsert])
            return stored
        return await self._writes.submit(upsert)

    async def _upserted(self, upserts: Sequence[_Upsert]) -> list[list[User]]:
        dialect = self._database.dialect
        given = [user for upsert in upserts for user in upsert.users]
        now, mode = max(upsert.now for upsert in upserts), upserts[0].mode
        async with self._database.transaction("users.upsert") as connection:
            await write_users(connection, dialect, given, now, mode)
            stored = await _by_id(connection, dialect, {user.id for user in given})
            if mode is WriteMode.REPLACE:
                _refuse_deleted(upserts, stored)
            await record(connection, *(upsert.change for upsert in upserts))
        return [[stored[user.id] for user in upsert.users] for upsert in upserts]

    async def get(self, id_: str) -> User:
        found = await self._reads.submit(id_)
        if found is None:
            raise UserNotFoundError(id_)
        return found

    async def _found(self, ids: Sequence[str]) -> list[User | None]:
        found = await self.by_id(ids)
        return [found.get(id_) for id_ in ids]

    async def by_id(self, ids: Iterable[str]) -> Mapping[str, User]:
        async with self._database.autocommit() as connection:
            return await _by_id(connection, self._database.dialect, ids)

    async def pick(self, ids: Iterable[str], names: Sequence[str]) -> Mapping[str, PickedUser]:
        dialect = self._database.dialect
        async with self._database.autocommit() as connection:
            statement = prepared_columns(_picking(dialect, tuple(names)), connection.dialect)
            found, states, *values = await statement.columns(
                connection, key_parameters(dialect, ids)
            )
        picked = tuples_of(PickedUser, [_STATES[state] for state in states], values=values)
        return dict(zip(found, picked, strict=True))

    async def query(
        self, predicate: Predicate, page: PageRequest, *, include_deactivated: bool = False
    ) -> Page[User]:
        statement = select(*COLUMNS).where(users.c.deleted_at.is_(None))
        if not include_deactivated:
            statement = statement.where(users.c.deactivated_at.is_(None))
        async with self._database.autocommit() as connection:
            return await fetch_page(
                connection,
                statement,
                page,
                USER_BINDING,
                self._database.dialect,
                user_from_row,
                matching=predicate,
            )

    async def deactivate(self, ids: Sequence[str], now: datetime) -> int:
        return await self._set_time(ids, now, "deactivated_at")

    async def reactivate(self, ids: Sequence[str], now: datetime) -> int:
        return await self._clear_time(ids, now, "deactivated_at", users.c.deleted_at.is_(None))

    async def restore(self, ids: Sequence[str], now: datetime) -> int:
        return await self._clear_time(ids, now, "deleted_at")

    async def delete(self, ids: Sequence[str], now: datetime) -> int:
        return await self._set_time(ids, now, "deleted_at")

    async def _set_time(self, ids: Sequence[str], now: datetime, column: str) -> int:
        unset = (users.c[column].is_(None), users.c.deleted_at.is_(None))
        return await self._mark(ids, unset, {column: now, "updated_at": now})

    async def _clear_time(
        self, ids: Sequence[str], now: datetime, column: str, *only: ColumnElement[bool]
    ) -> int:
        is_set = (users.c[column].is_not(None), *only)
        return await self._mark(ids, is_set, {column: None, "updated_at": now})

    async def _mark(
        self,
        ids: Sequence[str],
        only: Iterable[ColumnElement[bool]],
        values: Mapping[str, datetime | None],
    ) -> int:
        given = inline_rows(self._database.dialect, {"id": Key}, {"id": list(ids)})
        chosen = and_(users.c.id.in_(select(given.c["id"]).select_from(given.source)), *only)
        statement = update(users).where(chosen).values(values)
        async with self._database.transaction("users.mark") as connection:
            await lock_rows(connection, users, chosen)
            marked = (await connection.execute(statement)).rowcount
            if marked:
                await record(connection, AuditedChange(resource_of("users", ids)))
            return marked


def _refuse_deleted(upserts: Sequence[_Upsert], stored: Mapping[str, User]) -> None:
    """Raises for the first deleted user, whom callers would take for one who can be reached."""
    for upsert in upserts:
        for index, user in enumerate(upsert.users):
            if stored[user.id].deleted_at is not None:
                raise InvalidInputError(
                    f"users[{index}].id", "was deleted; RestoreUsers brings the user back"
                )


async def write_users(
    connection: AsyncConnection,
    dialect: DialectName,
    given: Iterable[User],
    now: datetime,
    mode: WriteMode,
    *,
    with_lifecycle_times: bool = False,
) -> None:
    """Writes users. `with_lifecycle_times` also stores their given `_LIFECYCLE_TIMES`."""
    names = [
        name
        for name in _NAMES
        if name != "updated_at" and (with_lifecycle_times or name not in _LIFECYCLE_TIMES)
    ]
    rows = list({user.id: user for user in given}.values())
    await connection.execute(
        *insert_rows(
            dialect,
            users,
            {name: [getattr(user, name) for user in rows] for name in names},
            constants={"created_at": now, "updated_at": now},
            keep_if_none=["created_at"],
            replace=[name for name in (*names, "updated_at") if name != "id"]
            if mode is WriteMode.REPLACE
            else (),
        )
    )


async def known_users(
    connection: AsyncConnection, dialect: DialectName, ids: Iterable[str], *, deleted: bool
) -> set[str]:
    """Returns the ids that are stored, with `deleted` also those of deleted users."""
    given = inline_rows(dialect, {"id": Key}, {"id": list(ids)})
    statement = select(users.c.id).join_from(given.source, users, users.c.id == given.c["id"])
    if not deleted:
        statement = statement.where(users.c.deleted_at.is_(None))
    return set(await connection.scalars(statement))


async def require_users(
    connection: AsyncConnection, dialect: DialectName, ids: Iterable[str]
) -> None:
    """Raises `UserNotFoundError` for the first user that is missing or deleted."""
    wanted = list(dict.fromkeys(ids))
    known = await known_users(connection, dialect, wanted, deleted=False)
    for id_ in wanted:
        if id_ not in known:
            raise UserNotFoundError(id_)


def reachable() -> ColumnElement[bool]:
    """Tests for users that can be in a segment with a definition: not deactivated, not deleted."""
    return and_(users.c.deactivated_at.is_(None), users.c.deleted_at.is_(None))


async def _by_id(
    connection: AsyncConnection, dialect: DialectName, ids: Iterable[str]
) -> dict[str, User]:
    statement = prepared_once(_whole(dialect), connection.dialect)
    rows = await statement.records(connection, key_parameters(dialect, ids))
    return {row.id: user_from_row(row) for row in rows}


@cache
def _whole(dialect: DialectName) -> Select[Any]:
    return select(*COLUMNS).where(in_keys(dialect, users.c.id))


@lru_cache(maxsize=256)
def _picking(dialect: DialectName, names: Sequence[str]) -> Select[Any]:
    picked = (users.c[name] for name in names)
    return select(users.c.id, _STATE, *picked).where(in_keys(dialect, users.c.id))


def user_from_row(row: Iterable[Any]) -> User:
    """Makes the user of a row with the `COLUMNS`."""
    values = dict(zip(_NAMES, row, strict=True))
    return User(**{**values, "teams": tuple(values["teams"])})
