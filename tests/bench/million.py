"""Whether a large campaign is as fast as a small one, and no larger in memory."""

from collections.abc import Iterator

from tests.bench.campaigns import into_new_channels
from tests.bench.contest import speed
from tests.bench.places import Line, Place, open_place
from tests.bench.runs import assert_exact, completed_run
from tests.bench.samples import growth, sampled_run, warm_up
from tests.harness import main_job

_GOAL = 0.8
_SAMPLE_SECONDS = 0.2


def measure(place: Place) -> Iterator[Line]:
    """One round of each."""
    with open_place(place.kind, warm_up(place.users)) as small:
        url = small.fresh()
        run = completed_run(small, url, into_new_channels)
        assert_exact(url, run.campaign, small.users, channels_created=small.users)
    yield Line(
        f"campaign to {small.users:,}", speed(small.users, run.seconds), f"{run.seconds:.2f} s"
    )
    url = place.fresh()
    samples = list(sampled_run(place, url, into_new_channels, _SAMPLE_SECONDS))
    campaign = samples[-1].campaign
    assert_exact(url, campaign, place.users, channels_created=place.users)
    seconds = main_job.run_seconds(campaign)
    yield Line(f"campaign to {place.users:,}", speed(place.users, seconds), f"{seconds:.1f} s")
    ratio = (place.users / seconds) / (small.users / run.seconds)
    yield Line("of the small one's speed", f"{ratio:.2f}", f"goal: at least {_GOAL}")
    yield from growth(place, samples)
