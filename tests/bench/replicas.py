"""How fast one campaign goes with more servers to share it."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.campaigns import into_new_channels
from tests.bench.contest import speed
from tests.bench.fleet import running_fleet
from tests.bench.places import Line, Place
from tests.bench.runs import assert_exact, until_completed
from tests.harness import main_job

_ROUNDS = 3
# campaign servers, segment servers
_FLEETS = ((1, 1), (2, 1), (3, 1), (3, 2))


@dataclass(frozen=True, slots=True)
class _Round:
    """What each campaign server had of the cores shows who took part."""

    seconds: float
    processor_seconds: tuple[float, ...]


def measure(place: Place) -> Iterator[Line]:
    """The best of a few rounds of each, in turns."""
    rounds: dict[tuple[int, int], list[_Round]] = {fleet: [] for fleet in _FLEETS}
    for _ in range(_ROUNDS):
        for (campaigns, segments), measured in rounds.items():
            measured.append(_measured(place, campaigns, segments))
    alone = min(each.seconds for each in rounds[_FLEETS[0]])
    for (campaigns, segments), measured in rounds.items():
        best = min(measured, key=lambda each: each.seconds)
        shares = " + ".join(f"{seconds:.1f}" for seconds in best.processor_seconds)
        yield Line(
            f"campaign servers: {campaigns}, segment servers: {segments}",
            speed(place.users, best.seconds),
            f"{best.seconds:.2f} s, best of {_ROUNDS}; {alone / best.seconds:.2f} of one of each; "
            f"campaign servers used {shares} s of the cores",
        )


def _measured(place: Place, campaigns: int, segments: int) -> _Round:
    url = place.fresh()
    logs = place.folder / "logs"
    with running_fleet(url, logs, segments=segments, campaigns=campaigns) as fleet:
        before = [server.processor_seconds() for server in fleet.campaigns]
        campaign = until_completed(place, fleet.pair, into_new_channels(fleet.pair))
        after = [server.processor_seconds() for server in fleet.campaigns]
    assert_exact(url, campaign, place.users, channels_created=place.users)
    used = tuple(end - begin for begin, end in zip(before, after, strict=True))
    return _Round(main_job.run_seconds(campaign), used)
