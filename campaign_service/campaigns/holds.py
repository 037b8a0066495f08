"""A database that is held: it sends and fires nothing until an operator has decided."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from campaign_service.campaigns.model import Status

COMMAND = "python -m campaign_service restored --resume | --stop"


class Because(StrEnum):
    """Why a database is held."""

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
        """The `status_reason` of campaigns that are held."""
        return f"held, because {self.cause}: an operator decides with `{COMMAND}`"


@dataclass(frozen=True, slots=True)
class HeldCampaign:
    """A campaign that goes on by itself when the hold ends."""

    campaign_id: str
    status: Status


class HoldStore(Protocol):
    """Whether the database is held, for all servers and senders that share it."""

    async def begin(self, *, start_held: bool) -> Hold | None:
        """Looks at the database when a server starts, before anything is sent.

        Holds it if it was restored, or if told to by `start_held`.
        """

    async def check(self) -> Hold | None:
        """Looks again, as a server does twice a second: a database can be restored under it.

        On SQLite it also counts the generation on if anything was written since the last look.
        """

    async def campaigns(self) -> "list[HeldCampaign]":
        """Campaigns that are in progress or scheduled, in the order of their ids."""

    async def release(self) -> None:
        """Ends the hold: from now on the database is at home where it is."""
