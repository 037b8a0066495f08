"""A campaign's speed beside that of the bare driver, which writes the same in the same run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from herald.campaign.v1 import campaign_pb2
from tests.bench.bare import open_bare
from tests.bench.filling import fill_channels
from tests.bench.floor import floor_seconds, what_was_written
from tests.bench.places import PAGE_SIZE, Line, Place
from tests.bench.runs import Run, assert_exact, completed_run
from tests.harness.processes import Pair

_ROUNDS = 3
_BEST = f"best of {_ROUNDS}"


@dataclass(frozen=True, slots=True)
class Contest:
    """`rows_per_target` says what the campaign of `start` writes, table by table.

    Unless channels are among it, everyone has theirs before.
    """

    name: str
    start: Callable[[Pair], campaign_pb2.Campaign]
    rows_per_target: Mapping[str, int]
    goal: float

    @property
    def makes_channels(self) -> bool:
        return "channels" in self.rows_per_target


@dataclass(frozen=True, slots=True)
class _Round:
    """A floor that moves the channels is the same floor where all of them are new."""

    run: Run
    floor_seconds: float
    moving_floor_seconds: float


def contested(place: Place, contest: Contest) -> Iterator[Line]:
    """The best of a few rounds on either side: whatever else the machine does only adds time."""
    rounds = [_round(place, contest) for _ in range(_ROUNDS)]
    seconds = min(each.run.seconds for each in rounds)
    floor = min(each.floor_seconds for each in rounds)
    yield Line(contest.name, speed(place.users, seconds), f"{seconds:.2f} s, {_BEST}")
    yield Line("  floor", speed(place.users, floor), f"{floor:.2f} s, {_BEST}, bare driver")
    yield Line("  of the floor", f"{floor / seconds:.2f}", f"goal: at least {contest.goal}")
    if not contest.makes_channels:
        moving = min(each.moving_floor_seconds for each in rounds)
        yield Line(
            "  of a floor that moves the channels",
            f"{moving / seconds:.2f}",
            f"{speed(place.users, moving)} with their message_count and last_message_at",
        )
    for server, peak in (
        ("segment", max(each.run.segment_bytes for each in rounds)),
        ("campaign", max(each.run.campaign_bytes for each in rounds)),
    ):
        yield Line(f"  peak memory of the {server} server", f"{peak / 2**20:.0f} MiB")


def speed(targets: int, seconds: float) -> str:
    return f"{targets / seconds:,.0f} targets/s"


def _round(place: Place, contest: Contest) -> _Round:
    url = _database(place, contest)
    run = completed_run(place, url, contest.start)
    made = place.users if contest.makes_channels else 0
    assert_exact(url, run.campaign, place.users, channels_created=made)
    written = what_was_written(url, contest.rows_per_target, PAGE_SIZE)
    floor = floor_seconds(_database(place, contest), written)
    if contest.makes_channels:
        return _Round(run, floor, floor)
    moving = floor_seconds(_database(place, contest), written, with_arrivals=True)
    return _Round(run, floor, moving)


def _database(place: Place, contest: Contest) -> str:
    url = place.fresh()
    if not contest.makes_channels:
        with open_bare(url) as bare:
            fill_channels(bare)
    return url
