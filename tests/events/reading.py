"""Reads the log of events as its consumers do."""

from collections.abc import Sequence

from campaign_service.campaigns.events import Event, Offset
from campaign_service.events.reader import EventReader, Selection
from campaign_service.storage.event_log import SqlEventLog
from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store

EVERYTHING = Selection()


def a_reader(database: Database) -> EventReader:
    return EventReader(SqlEventLog(database), sql_chat_store(database))


class Consumer:
    """Goes on where it was; a few events at a time."""

    def __init__(
        self, database: Database, selection: Selection = EVERYTHING, at_once: int = 7
    ) -> None:
        self._reader = a_reader(database)
        self._selection = selection
        self._at_once = at_once
        self.offset = Offset(1)
        self.events: list[Event] = []

    async def drain(self) -> Sequence[Event]:
        """What is new."""
        end = (await self._reader.ends()).next
        before = len(self.events)
        while self.offset != end:
            found, self.offset = await self._reader.read(
                self.offset, end, self._selection, self._at_once
            )
            self.events += found
        return self.events[before:]


def described(events: Sequence[Event]) -> list[str]:
    """Each event in a word: its type, and the message's target."""
    return [" ".join(filter(None, [event.type, target_of(event)])) for event in events]


def target_of(event: Event) -> str:
    cid = event.payload.get("cid", "")
    return str(cid).partition(":")[2]
