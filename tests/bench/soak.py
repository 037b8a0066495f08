"""A campaign to very many channels: whether its speed and both servers' memory stay as they are."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.bare import open_bare
from tests.bench.campaigns import to_channels
from tests.bench.contest import speed
from tests.bench.filling import fill_channels
from tests.bench.places import Line, Place
from tests.bench.runs import assert_exact
from tests.bench.samples import Sample, growth, rates, sampled_run
from tests.harness import main_job
from tests.harness.many_users import insert_users

_RESULTS = Path("bench-results")
_SAMPLE_SECONDS = 1.0
_STRETCHES = 10


def measure(place: Place) -> Iterator[Line]:
    """Plots and samples are there even of a run that fails."""
    from tests.bench import plots  # noqa: PLC0415 - only this one needs matplotlib

    begin = time.perf_counter()
    url = _filled(place)
    yield Line("users with a channel each", f"{place.users:,}", _in_seconds(begin))
    samples: list[Sample] = []
    name = f"soak-{place.kind}-{place.users}"
    try:
        for sample in sampled_run(place, url, to_channels, _SAMPLE_SECONDS):
            samples.append(sample)  # noqa: PERF402 - those before an error are kept
    finally:
        title = f"{place.users:,} channels on {place.kind}"
        plots.write_results(_RESULTS, name, title, samples)
    campaign = samples[-1].campaign
    seconds = main_job.run_seconds(campaign)
    yield Line("campaign to channels", speed(place.users, seconds), f"{seconds:.0f} s")
    yield _steadiness(samples)
    yield from growth(place, samples)
    yield Line("plotted", f"{len(samples):,} samples", f"{_RESULTS / name}*")
    begin = time.perf_counter()
    assert_exact(url, campaign, place.users, channels_created=0)
    yield Line("recount", "exact", _in_seconds(begin))


def _filled(place: Place) -> str:
    url = place.empty()
    with open_bare(url) as bare:
        bare.fill(insert_users(place.kind, place.users))
        fill_channels(bare)
    return url


def _steadiness(samples: Sequence[Sample]) -> Line:
    found = [rate for _, rate in rates(samples, _STRETCHES)]
    return Line(
        "the end beside the beginning",
        f"{found[-1] / found[0]:.2f}" if found and found[0] else "too short to tell",
        "targets/s on the way: " + ", ".join(f"{rate:,.0f}" for rate in found),
    )


def _in_seconds(begin: float) -> str:
    return f"{time.perf_counter() - begin:.0f} s"
