"""A hold of the database: nothing is sent or started until an operator has decided."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from campaign_service.campaigns.model import Status

COMMAND = "herald restored --resume | --stop"


class Because(StrEnum):
    """The cause of a hold."""

    RESTORED = "restored"
    STARTED_HELD = "started_held"


_CAUSES = {
    Because.RESTORED: "the database was restored from a backup",
    Because.STARTED_HELD: "a server was started with HERALD_START_HELD",
}


@dataclass(frozen=True, slots=True)
class Hold:
    because: Because

    @property
    def cause(self) -> str:
        return _CAUSES[self.because]

    @property
    def explanation(self) -> str:
        """The `status_reason` of held campaigns."""
        return f"held, because {self.cause}: an operator decides with `{COMMAND}`"


@dataclass(frozen=True, slots=True)
class HeldCampaign:
    """A campaign that continues by itself when the hold ends."""

    campaign_id: str
    status: Status


class HoldStore(Protocol):
    """The hold of the database, for all servers and senders that share it."""

    async def begin(self, *, start_held: bool) -> Hold | None:
        """Checks the database when a server starts, before anything is sent.

        Begins a hold if the database was restored, or if `start_held`.
        """

    async def check(self) -> Hold | None:
        """Checks again, twice a second, because a database can be restored under a running server.

        On SQLite, also raises the generation if anything was written since the last check.
        """

    async def campaigns(self) -> "list[HeldCampaign]":
        """Returns campaigns that are in progress or scheduled, in the order of their ids."""

    async def release(self) -> None:
        """Ends the hold: accepts the database's current place as its own."""
