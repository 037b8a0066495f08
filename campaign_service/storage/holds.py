"""Holds of the database in SQL, and the detection of a restored database."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from sqlalchemy import exists, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.holds import Because, HeldCampaign, Hold
from campaign_service.campaigns.model import Status
from campaign_service.storage.origins import Origin, SqliteOrigins, origins_of
from campaign_service.storage.tables import campaigns, restore_guard
from chat_store.database.engine import Database
from chat_store.errors import StoreUnavailableError

_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('herald-restore-guard'))")
_END_SECONDS = 2.0
_GO_ON_BY_THEMSELVES = (
    campaigns.c.status.in_([Status.SCHEDULED, Status.IN_PROGRESS]),
    campaigns.c.deleted_at.is_(None),
)


@dataclass(frozen=True, slots=True)
class _Assessment:
    """The origin written in the database (`known`), its actual origin (`found`), and the result."""

    known: Origin | None
    found: Origin | None
    hold: Hold | None
    hold_is_written: bool


class SqlHoldStore:
    """See `campaign_service.campaigns.holds.HoldStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._origins = origins_of(database)
        # of the last check on SQLite: the files' modification times, and the generation
        self._traces: tuple[int, ...] = ()
        self._generation = 0

    async def begin(self, *, start_held: bool) -> Hold | None:
        async with self._database.snapshot() as connection:
            assessment = await self._assess(connection, at_start=True)
        if assessment.hold_is_written:
            return assessment.hold
        try:
            async with self._database.transaction("hold.begin") as connection:
                hold = await self._examine(connection, at_start=True, start_held=start_held)
            if hold is None:
                await self._note()
        except StoreUnavailableError:
            # a server without a hold also starts on a full disk, and raises the generation later
            if assessment.hold or start_held:
                raise
            return None
        return hold

    async def check(self) -> Hold | None:
        traces = self._traces_now()
        async with self._database.snapshot() as connection:
            assessment = await self._assess(connection, at_start=False)
        if assessment.hold_is_written or (
            assessment.hold is None and self._is_settled(assessment, traces)
        ):
            return assessment.hold
        async with self._database.transaction("hold.check") as connection:
            hold = await self._examine(connection, at_start=False, start_held=False)
        if hold is None:
            await self._note()
        return hold

    async def end(self) -> None:
        """Raises the generation a last time, so that backups made during the run are behind.

        Takes at most 2 s, because a server's end does not wait for a locked database. In that case
        only a backup made in the last half second is not recognized.
        """
        if isinstance(self._origins, SqliteOrigins):
            with suppress(StoreUnavailableError, TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    await self.check()

    async def campaigns(self) -> list[HeldCampaign]:
        columns = campaigns.c
        statement = select(columns.id, columns.status).where(*_GO_ON_BY_THEMSELVES)
        async with self._database.snapshot() as connection:
            rows = await connection.execute(statement.order_by(columns.id))
            return [HeldCampaign(row.id, Status(row.status)) for row in rows]

    async def release(self) -> None:
        explanations = [Hold(because).explanation for because in Because]
        async with self._database.transaction("hold.release") as connection:
            await self._lock(connection)
            await self._settle(connection, await self._assess(connection, at_start=True))
            await connection.execute(
                update(campaigns)
                .where(campaigns.c.status_reason.in_(explanations))
                .values(status_reason="")
            )
        await self._note()

    async def _assess(self, connection: AsyncConnection, *, at_start: bool) -> _Assessment:
        # the file before the row: the generation in the file was in the row before
        found = await self._origins.found(connection)
        row = (await connection.execute(select(restore_guard))).one_or_none()
        known = Origin(row.origin, row.place, row.generation) if row else None
        if row and row.held_because:
            return _Assessment(known, found, Hold(Because(row.held_because)), hold_is_written=True)
        seen = found if at_start else found or known
        restored = self._origins.is_restored(known, seen) and await connection.scalar(
            select(exists(select(campaigns.c.id)))
        )
        hold = Hold(Because.RESTORED) if restored else None
        return _Assessment(known, found, hold, hold_is_written=False)

    async def _examine(
        self, connection: AsyncConnection, *, at_start: bool, start_held: bool
    ) -> Hold | None:
        await self._lock(connection)
        assessment = await self._assess(connection, at_start=at_start)
        hold = assessment.hold or (Hold(Because.STARTED_HELD) if start_held else None)
        if assessment.hold_is_written:
            return hold
        if hold is None:
            await self._settle(connection, assessment)
            return None
        await self._write(connection, assessment.known or Origin(""), hold.because)
        await connection.execute(
            update(campaigns).where(*_GO_ON_BY_THEMSELVES).values(status_reason=hold.explanation)
        )
        return hold

    async def _settle(self, connection: AsyncConnection, assessment: _Assessment) -> None:
        """Accepts the current origin as the database's own, which ends a hold."""
        origin = self._origins.next(assessment.known, assessment.found)
        if assessment.found is None or assessment.found.name != origin.name:
            # first, and one generation behind: after a crash before the commit, nothing looks
            # restored
            await self._origins.note(replace(origin, generation=origin.generation - 1))
        if origin != assessment.known or assessment.hold_is_written:
            await self._write(connection, origin, "")

    async def _note(self) -> None:
        """Writes the committed generation to SQLite's file."""
        if not isinstance(self._origins, SqliteOrigins):
            return
        # later writes belong to the next generation
        self._traces = self._traces_now()
        async with self._database.autocommit() as connection:
            row = (await connection.execute(select(restore_guard))).one()
        self._generation = row.generation
        with _unavailable_disk():
            await self._origins.note(Origin(row.origin, row.place, row.generation))

    def _is_settled(self, assessment: _Assessment, traces: tuple[int, ...]) -> bool:
        if not isinstance(self._origins, SqliteOrigins):
            return self._origins.next(assessment.known, assessment.found) == assessment.known
        if assessment.known and assessment.known.generation != self._generation:
            # another server has raised the generation for all writes until now
            self._traces, self._generation = traces, assessment.known.generation
        return traces == self._traces and assessment.found == assessment.known

    def _traces_now(self) -> tuple[int, ...]:
        return self._origins.traces() if isinstance(self._origins, SqliteOrigins) else ()

    async def _lock(self, connection: AsyncConnection) -> None:
        # SQLite's write transactions exclude each other already
        if self._database.dialect == "postgresql":
            await connection.execute(_LOCK)

    async def _write(self, connection: AsyncConnection, origin: Origin, held_because: str) -> None:
        values = {
            "origin": origin.name,
            "place": origin.place,
            "generation": origin.generation,
            "held_because": held_because,
        }
        insert = sqlite.insert if self._database.dialect == "sqlite" else postgresql.insert
        await connection.execute(
            insert(restore_guard)
            .values(id=1, **values)
            .on_conflict_do_update(index_elements=["id"], set_=values)
        )


@contextmanager
def _unavailable_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(str(error)) from error
