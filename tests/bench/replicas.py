"""How fast one campaign goes with more servers to share it."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.campaigns import into_new_channels
from tests.bench.comparison import speed
from tests.bench.databases import BenchDatabase, Line
from tests.bench.replica_campaigns import running_replicas
from tests.bench.runs import assert_exact, until_completed
from tests.harness import hello_campaign

_ROUNDS = 3
# campaign servers, segment servers
_FLEETS = ((1, 1), (2, 1), (3, 1), (3, 2))


@dataclass(frozen=True, slots=True)
class _Round:
    """What each campaign server had of the cores shows who took part."""

    seconds: float
    processor_seconds: tuple[float, ...]


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    """The best of a few rounds of each, in turns."""
    rounds: dict[tuple[int, int], list[_Round]] = {fleet: [] for fleet in _FLEETS}
    for _ in range(_ROUNDS):
        for (campaigns, segments), measured in rounds.items():
            measured.append(_measured(bench_database, campaigns, segments))
    alone = min(each.seconds for each in rounds[_FLEETS[0]])
    for (campaigns, segments), measured in rounds.items():
        best = min(measured, key=lambda each: each.seconds)
        shares = " + ".join(f"{seconds:.1f}" for seconds in best.processor_seconds)
        yield Line(
            f"campaign servers: {campaigns}, segment servers: {segments}",
            speed(bench_database.users, best.seconds),
            f"{best.seconds:.2f} s, best of {_ROUNDS}; {alone / best.seconds:.2f} of one of each; "
            f"campaign servers used {shares} s of the cores",
        )


def _measured(bench_database: BenchDatabase, campaigns: int, segments: int) -> _Round:
    url = bench_database.fresh()
    logs = bench_database.folder / "logs"
    with running_replicas(url, logs, segments=segments, campaigns=campaigns) as fleet:
        before = [server.processor_seconds() for server in fleet.campaigns]
        campaign = until_completed(bench_database, fleet.pair, into_new_channels(fleet.pair))
        after = [server.processor_seconds() for server in fleet.campaigns]
    assert_exact(url, campaign, bench_database.users, channels_created=bench_database.users)
    used = tuple(end - begin for begin, end in zip(before, after, strict=True))
    return _Round(hello_campaign.run_seconds(campaign), used)
