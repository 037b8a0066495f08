"""How fast a campaign to users goes whose channels are all there, found in either way."""

from collections.abc import Iterator

from tests.bench.baseline import MESSAGES
from tests.bench.campaigns import into_channels_by_id, into_channels_of_two
from tests.bench.comparison import Comparison, compared
from tests.bench.databases import BenchDatabase, Line

_GOAL = 0.4


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    for comparison in (
        Comparison("messages, channels by id", into_channels_by_id, MESSAGES, _GOAL),
        Comparison("messages, channels of two", into_channels_of_two, MESSAGES, _GOAL),
    ):
        yield from compared(bench_database, comparison)
