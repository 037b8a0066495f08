"""How far pushes are in the log of events, and their counts, in SQL."""

from collections.abc import Collection, Mapping

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from campaign_service.campaigns.events import Offset
from campaign_service.campaigns.pushes import PushCounts, PushOutcome, PushResult
from campaign_service.storage.event_log import end_of_log
from campaign_service.storage.event_tables import campaign_pushes, push_place
from campaign_service.storage.locks import is_held
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.bulk.row_sources import in_keys, key_parameters
from chat_store.database.engine import Database

_offset = push_place.c
_pushes = campaign_pushes.c


class SqlPushStore:
    """See `campaign_service.storage.event_ports.PushStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self) -> None:
        async with self._database.autocommit() as connection:
            if (await connection.execute(select(_offset.id))).first() is not None:
                return
        async with self._database.transaction("push.begin") as connection:
            end = await end_of_log(connection)
            row = {"id": [1], "position": [end.position], "number": [end.number]}
            await connection.execute(*insert_rows(self._database.dialect, push_place, row))

    async def offset(self) -> Offset:
        async with self._database.autocommit() as connection:
            found = await connection.execute(select(_offset.position, _offset.number))
            return Offset(*found.one())

    async def advance(self, offset: Offset, reached: Offset) -> bool:
        statement = (
            update(push_place)
            .where(_offset.position == offset.position, _offset.number == offset.number, ~is_held())
            .values(position=reached.position, number=reached.number)
        )
        async with self._database.transaction("push.advance") as connection:
            return (await connection.execute(statement)).rowcount == 1

    async def count(self, counts: Mapping[tuple[str, PushResult], int]) -> None:
        # replicas lock the rows in the same order
        rows = sorted(
            (campaign_id, str(result.outcome), str(result.reason), pushes)
            for (campaign_id, result), pushes in counts.items()
        )
        names = [column.name for column in campaign_pushes.columns]
        insert = (sqlite if self._database.dialect == "sqlite" else postgresql).insert(
            campaign_pushes
        )
        added = insert.values([dict(zip(names, row, strict=True)) for row in rows])
        statement = added.on_conflict_do_update(
            index_elements=list(campaign_pushes.primary_key.columns),
            set_={"pushes": _pushes.pushes + added.excluded.pushes},
        )
        async with self._database.transaction("push.count") as connection:
            await connection.execute(statement)

    async def counts(self, campaign_ids: Collection[str]) -> Mapping[str, PushCounts]:
        dialect = self._database.dialect
        statement = (
            select(_pushes.campaign_id, _pushes.outcome, func.sum(_pushes.pushes).label("pushes"))
            .where(in_keys(dialect, _pushes.campaign_id))
            .group_by(_pushes.campaign_id, _pushes.outcome)
        )
        found: dict[str, dict[str, int]] = {}
        async with self._database.autocommit() as connection:
            for row in await connection.execute(statement, key_parameters(dialect, campaign_ids)):
                found.setdefault(row.campaign_id, {})[row.outcome] = int(row.pushes)
        return {
            campaign_id: PushCounts(**{outcome: of_one.get(outcome, 0) for outcome in PushOutcome})
            for campaign_id, of_one in found.items()
        }
