"""A campaign's speed beside that of the bare driver, which writes the same in the same run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from herald.campaign.v1 import campaign_pb2
from tests.bench.bare_driver import open_bare_driver
from tests.bench.baseline import floor_seconds, what_was_written
from tests.bench.databases import PAGE_SIZE, BenchDatabase, Line
from tests.bench.runs import Run, assert_exact, completed_run
from tests.bench.seed_data import fill_channels
from tests.harness.processes import Pair

_ROUNDS = 3
_BEST = f"best of {_ROUNDS}"


@dataclass(frozen=True, slots=True)
class Comparison:
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


def compared(bench_database: BenchDatabase, comparison: Comparison) -> Iterator[Line]:
    """The best of a few rounds on either side: whatever else the machine does only adds time."""
    rounds = [_round(bench_database, comparison) for _ in range(_ROUNDS)]
    seconds = min(each.run.seconds for each in rounds)
    floor = min(each.floor_seconds for each in rounds)
    yield Line(comparison.name, speed(bench_database.users, seconds), f"{seconds:.2f} s, {_BEST}")
    yield Line(
        "  floor", speed(bench_database.users, floor), f"{floor:.2f} s, {_BEST}, bare driver"
    )
    yield Line("  of the floor", f"{floor / seconds:.2f}", f"goal: at least {comparison.goal}")
    if not comparison.makes_channels:
        moving = min(each.moving_floor_seconds for each in rounds)
        yield Line(
            "  of a floor that moves the channels",
            f"{moving / seconds:.2f}",
            f"{speed(bench_database.users, moving)} with their message_count and last_message_at",
        )
    for server, peak in (
        ("segment", max(each.run.segment_bytes for each in rounds)),
        ("campaign", max(each.run.campaign_bytes for each in rounds)),
    ):
        yield Line(f"  peak memory of the {server} server", f"{peak / 2**20:.0f} MiB")


def speed(targets: int, seconds: float) -> str:
    return f"{targets / seconds:,.0f} targets/s"


def _round(bench_database: BenchDatabase, comparison: Comparison) -> _Round:
    url = _database(bench_database, comparison)
    run = completed_run(bench_database, url, comparison.start)
    made = bench_database.users if comparison.makes_channels else 0
    assert_exact(url, run.campaign, bench_database.users, channels_created=made)
    written = what_was_written(url, comparison.rows_per_target, PAGE_SIZE)
    floor = floor_seconds(_database(bench_database, comparison), written)
    if comparison.makes_channels:
        return _Round(run, floor, floor)
    moving = floor_seconds(_database(bench_database, comparison), written, with_arrivals=True)
    return _Round(run, floor, moving)


def _database(bench_database: BenchDatabase, comparison: Comparison) -> str:
    url = bench_database.fresh()
    if not comparison.makes_channels:
        with open_bare_driver(url) as driver:
            fill_channels(driver)
    return url
