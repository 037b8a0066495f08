"""How fast a campaign to users goes whose channels are all there, found in either way."""

from collections.abc import Iterator

from tests.bench.campaigns import into_channels_by_id, into_channels_of_two
from tests.bench.contest import Contest, contested
from tests.bench.floor import MESSAGES
from tests.bench.places import Line, Place

_GOAL = 0.4


def measure(place: Place) -> Iterator[Line]:
    for contest in (
        Contest("messages, channels by id", into_channels_by_id, MESSAGES, _GOAL),
        Contest("messages, channels of two", into_channels_of_two, MESSAGES, _GOAL),
    ):
        yield from contested(place, contest)
