"""How far a campaign was and how large both servers were, again and again during a run."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from herald.campaign.v1 import campaign_pb2
from tests.bench.databases import BenchDatabase, Line
from tests.bench.runs import states, warm_pair
from tests.harness.processes import Pair

WARM_UP_TARGETS = 60_000
"""By then everything that a run needs is in memory."""

_GROWTH_GOAL = 50


@dataclass(frozen=True, slots=True)
class Sample:
    """The campaign so many `seconds` after its start, and both servers' resident bytes."""

    seconds: float
    campaign: campaign_pb2.Campaign
    segment_bytes: int
    campaign_bytes: int

    @property
    def handled(self) -> int:
        stats = self.campaign.stats
        return stats.messages_sent + stats.targets_skipped + stats.targets_failed


def sampled_run(
    bench_database: BenchDatabase,
    database_url: str,
    start: Callable[[Pair], campaign_pb2.Campaign],
    every: float,
) -> Iterator[Sample]:
    """The campaign of `start`, on two servers of its own, up to and with its end."""
    with warm_pair(bench_database, database_url) as pair:
        started = start(pair)
        begin = time.monotonic()
        for campaign in states(bench_database, pair, started, every):
            seconds = time.monotonic() - begin
            yield Sample(seconds, campaign, pair.segment.memory(), pair.campaign.memory())


def rates(samples: Sequence[Sample], most: int) -> list[tuple[float, float]]:
    """Targets per second over at most so many stretches of equal length, each with its end.

    From one sample to the next the rate leaps by whole pages.
    """
    ends = samples[:: 1 + (len(samples) - 1) // most]
    return [
        (end.seconds, (end.handled - begin.handled) / (end.seconds - begin.seconds))
        for begin, end in pairwise(ends)
    ]


def warm_up(users: int) -> int:
    """How many targets it takes; of few users, a part of them."""
    return min(WARM_UP_TARGETS, users // 10)


def growth(bench_database: BenchDatabase, samples: Sequence[Sample]) -> Iterator[Line]:
    """Of the memory, from the end of the warm-up to the most there was after it."""
    warm = [sample for sample in samples if sample.handled >= warm_up(bench_database.users)]
    for server, sizes in (
        ("segment", [sample.segment_bytes for sample in warm]),
        ("campaign", [sample.campaign_bytes for sample in warm]),
    ):
        yield Line(
            f"the {server} server grows by",
            f"{(max(sizes) - sizes[0]) / 2**20:.0f} MiB",
            f"from {warm[0].handled:,} targets on, to {max(sizes) / 2**20:.0f} MiB at most; "
            f"goal: under {_GROWTH_GOAL} MiB",
        )
