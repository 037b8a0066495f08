"""How fast a campaign with new channels goes through both servers, beside the bare driver."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.floor import floor_seconds
from tests.bench.places import PAGE_SIZE, Line, Place
from tests.bench.runs import assert_exact, until_completed
from tests.harness import main_job
from tests.harness.processes import running_pair

_ROUNDS = 3
_GOAL = 0.4


@dataclass(frozen=True, slots=True)
class _Round:
    campaign_seconds: float
    floor_seconds: float
    segment_bytes: int
    campaign_bytes: int


def measure(place: Place) -> Iterator[Line]:
    """The best of a few rounds on either side: whatever else the machine does only adds time."""
    rounds = [_measured(place) for _ in range(_ROUNDS)]
    campaign = min(each.campaign_seconds for each in rounds)
    floor = min(each.floor_seconds for each in rounds)
    best = f"best of {_ROUNDS}"
    yield Line("campaign", _speed(place.users, campaign), f"{campaign:.2f} s, {best}")
    yield Line("floor", _speed(place.users, floor), f"{floor:.2f} s, {best}, bare driver")
    yield Line("of the floor", f"{floor / campaign:.2f}", f"goal: at least {_GOAL}")
    for server, peak in (
        ("segment", max(each.segment_bytes for each in rounds)),
        ("campaign", max(each.campaign_bytes for each in rounds)),
    ):
        yield Line(f"peak memory of the {server} server", f"{peak / 2**20:.0f} MiB")


def _measured(place: Place) -> _Round:
    url = place.fresh()
    settings = {"HERALD_PAGE_SIZE": str(PAGE_SIZE)}
    with running_pair(url, place.folder / "logs", settings) as pair:
        started = main_job.start_for_everyone(pair)
        campaign = until_completed(place, pair, started)
        peaks = (pair.segment.peak_memory(), pair.campaign.peak_memory())
    assert_exact(place, url, campaign)
    return _Round(
        main_job.run_seconds(campaign), floor_seconds(url, place.fresh(), PAGE_SIZE), *peaks
    )


def _speed(targets: int, seconds: float) -> str:
    return f"{targets / seconds:,.0f} targets/s"
