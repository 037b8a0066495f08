"""A campaign to very many channels: whether its speed and both servers' memory stay as they are."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.bare_driver import open_bare_driver
from tests.bench.campaigns import to_channels
from tests.bench.comparison import speed
from tests.bench.databases import BenchDatabase, Line
from tests.bench.latency_samples import Sample, growth, rates, sampled_run
from tests.bench.runs import assert_exact
from tests.bench.seed_data import fill_channels
from tests.harness import hello_campaign
from tests.harness.bulk_users import insert_users

_RESULTS = Path("bench-results")
_SAMPLE_SECONDS = 1.0
_STRETCHES = 10


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    """Plots and samples are there even of a run that fails."""
    from tests.bench import plots  # noqa: PLC0415 - only this one needs matplotlib

    begin = time.perf_counter()
    url = _filled(bench_database)
    yield Line("users with a channel each", f"{bench_database.users:,}", _in_seconds(begin))
    samples: list[Sample] = []
    name = f"soak-{bench_database.kind}-{bench_database.users}"
    try:
        for sample in sampled_run(bench_database, url, to_channels, _SAMPLE_SECONDS):
            samples.append(sample)  # noqa: PERF402 - those before an error are kept
    finally:
        title = f"{bench_database.users:,} channels on {bench_database.kind}"
        plots.write_results(_RESULTS, name, title, samples)
    campaign = samples[-1].campaign
    seconds = hello_campaign.run_seconds(campaign)
    yield Line("campaign to channels", speed(bench_database.users, seconds), f"{seconds:.0f} s")
    yield _steadiness(samples)
    yield from growth(bench_database, samples)
    yield Line("plotted", f"{len(samples):,} samples", f"{_RESULTS / name}*")
    begin = time.perf_counter()
    assert_exact(url, campaign, bench_database.users, channels_created=0)
    yield Line("recount", "exact", _in_seconds(begin))


def _filled(bench_database: BenchDatabase) -> str:
    url = bench_database.empty()
    with open_bare_driver(url) as driver:
        driver.fill(insert_users(bench_database.kind, bench_database.users))
        fill_channels(driver)
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
