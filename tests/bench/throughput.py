"""How fast a campaign that makes its channels goes through both servers."""

from collections.abc import Iterator

from tests.bench.campaigns import into_new_channels
from tests.bench.contest import Contest, contested
from tests.bench.floor import NEW_CHANNELS
from tests.bench.places import Line, Place

_GOAL = 0.5


def measure(place: Place) -> Iterator[Line]:
    yield from contested(place, Contest("campaign", into_new_channels, NEW_CHANNELS, _GOAL))
