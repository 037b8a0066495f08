"""How fast a campaign to channels goes, all of which are there."""

from collections.abc import Iterator

from tests.bench.campaigns import to_channels
from tests.bench.contest import Contest, contested
from tests.bench.floor import MESSAGES
from tests.bench.places import Line, Place

_GOAL = 0.4


def measure(place: Place) -> Iterator[Line]:
    yield from contested(place, Contest("campaign to channels", to_channels, MESSAGES, _GOAL))
