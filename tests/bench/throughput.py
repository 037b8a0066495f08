"""How fast a campaign that makes its channels goes through both servers."""

from collections.abc import Iterator

from tests.bench.baseline import NEW_CHANNELS
from tests.bench.campaigns import into_new_channels
from tests.bench.comparison import Comparison, compared
from tests.bench.databases import BenchDatabase, Line

_GOAL = 0.5


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    yield from compared(
        bench_database, Comparison("campaign", into_new_channels, NEW_CHANNELS, _GOAL)
    )
