"""How fast a campaign to channels goes, all of which are there."""

from collections.abc import Iterator

from tests.bench.baseline import MESSAGES
from tests.bench.campaigns import to_channels
from tests.bench.comparison import Comparison, compared
from tests.bench.databases import BenchDatabase, Line

_GOAL = 0.4


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    yield from compared(
        bench_database, Comparison("campaign to channels", to_channels, MESSAGES, _GOAL)
    )
