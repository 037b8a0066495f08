"""What campaigns should be like, in plain Python: the contract's table, its clock, its outcomes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from campaign_service.campaigns.errors import CampaignDeletedError, StatusNotAllowedError
from campaign_service.campaigns.model import Status, Times

ACTIVE = tuple(f"u{number:02}" for number in range(8))
DEACTIVATED, DELETED = "u08", "u09"
# of the others some sort before everyone, some after
UNKNOWN = ("a00", "z99")
EVERYONE = (*ACTIVE, DEACTIVATED, DELETED, *UNKNOWN)
# whoever has a channel with the sender before any campaign
ROOMED = frozenset(ACTIVE[::2])
# whom the filter names; it finds the active ones
MATCHING = frozenset({"u01", "u02", "u05", "u07", DEACTIVATED, DELETED, *UNKNOWN})
LISTS = ("a", "b", "c")

_D, _S, _P, _C, _X = Status
# the contract's table; what is not in it is refused
_START = {_D: _P, _S: _P, _P: _P, _X: _P}
_SCHEDULE = {_D: _S, _S: _S, _X: _S}
_STOP = {_S: _X, _P: _X, _X: _X}
_UPDATE = {_D: _D, _S: _S, _X: _X}
_DELETE = {_D: _D, _S: _S, _X: _X, _C: _C}
# all that a history may show, one change after the other
STEPS = frozenset(
    {
        *((_D, to) for to in (_D, _S, _P)),
        *((_S, to) for to in (_S, _P, _X)),
        *((_P, to) for to in (_C, _X)),
        *((_X, to) for to in (_X, _S, _P)),
        (_C, _C),
    }
)

SENT = "sent"
_FAILING = (
    "{% set divisor = receiver.id[1:]|int % 4 %} {{ 1 // divisor if divisor else 'x' * 10 ** 9 }}"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A definition: to `lists`, and those of the filter, or else to `users`."""

    users: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    filtered: bool = False
    # "new" channels, the "rooms" that there are, or none named: a room, if there is one
    way: str = "new"
    wording: int = 0
    # the text can't be rendered for some
    fails: bool = False

    def same_as(self, other: "Plan") -> bool:
        """The users are a set."""
        return replace(self, users=()) == replace(other, users=()) and set(self.users) == set(
            other.users
        )

    def audience(self, lists: Mapping[str, frozenset[str]]) -> frozenset[str]:
        matching = MATCHING.intersection(ACTIVE) if self.filtered else frozenset()
        return frozenset(self.users).union(matching, *(lists[name] for name in self.lists))

    def outcome(self, target: str) -> str:
        """What becomes of the target: SENT, or the reason why not."""
        if target in UNKNOWN:
            return "user_not_found"
        if target in (DEACTIVATED, DELETED):
            return "user_deactivated" if target == DEACTIVATED else "user_deleted"
        if self.way != "new" and target not in ROOMED:
            return "channel_not_found"
        return "template_error" if self.fails and self._divisor(target) == 0 else SENT

    def text(self, target: str) -> str:
        end = f" {1 // self._divisor(target)}" if self.fails else ""
        return f"{self.wording} {target}{end}"

    @property
    def template(self) -> str:
        end = _FAILING if self.fails else ""
        return f"{self.wording} {{{{ receiver.id }}}}{end}"

    def _divisor(self, target: str) -> int:
        return int(target[1:]) % 4


@dataclass(frozen=True, slots=True)
class Handled:
    """The message of a target, or why there is none, and what else must never change of it."""

    reported: tuple[str, ...]
    stamp: tuple[object, ...]


@dataclass(slots=True)
class Expected:
    """A campaign as it should be."""

    plan: Plan
    status: Status = Status.DRAFT
    revision: int = 1
    times: Times = field(default_factory=Times)
    deleted: bool = False
    targets_total: int = 0
    started_at: datetime | None = None
    # a sender that crashed may hold a part of it until then
    held_until: datetime | None = None
    handled: dict[str, Handled] = field(default_factory=dict)

    def start(self, times: Times, now: datetime, audience: frozenset[str]) -> Callable[[], None]:
        """What the call does. Raises what it should."""
        if times.scheduled_for is not None and times.scheduled_for > now:
            status = self._next(_SCHEDULE)
            return lambda: self._move(status, times)
        if self._next(_START) is self.status:
            return lambda: None
        return lambda: self._launch(times, now, audience)

    def stop(self) -> Callable[[], None]:
        status = self._next(_STOP)
        return lambda: self._move(status) if self.status is not status else None

    def update(self, plan: Plan) -> Callable[[], None]:
        self._next(_UPDATE)

        def update() -> None:
            if not self.plan.same_as(plan):
                self.plan = plan
                self._move(self.status)

        return update

    def delete(self) -> Callable[[], None]:
        if self.deleted:
            return lambda: None
        self._next(_DELETE)

        def delete() -> None:
            self.deleted = True
            self._move(self.status)

        return delete

    def tick(self, now: datetime, audience: frozenset[str]) -> None:
        """What the clock does."""
        if self.deleted or self.status not in (_S, _P):
            return
        if self.times.stop_at is not None and self.times.stop_at <= now:
            self._move(_X)
        elif self.status is _S and self.times.scheduled_for and self.times.scheduled_for <= now:
            self._launch(self.times, now, audience)

    def complete(self) -> None:
        self._move(_C)
        self.targets_total = len(self.handled)

    def _launch(self, times: Times, now: datetime, audience: frozenset[str]) -> None:
        self._move(_P, times)
        self.started_at = self.started_at or now
        self.targets_total = max(len(audience), len(self.handled))
        self.held_until = None

    def _move(self, status: Status, times: Times | None = None) -> None:
        self.status = status
        self.revision += 1
        self.times = times or self.times

    def _next(self, moves: Mapping[Status, Status]) -> Status:
        if self.deleted:
            raise CampaignDeletedError("")
        if self.status not in moves:
            raise StatusNotAllowedError("", "", self.status, [])
        return moves[self.status]


def is_too_late(times: Times, now: datetime) -> bool:
    """Whether it would have to stop before anything could be sent."""
    start = now if times.scheduled_for is None else max(now, times.scheduled_for)
    return times.stop_at is not None and times.stop_at <= start
