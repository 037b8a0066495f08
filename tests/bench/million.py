"""Whether a large campaign is as fast as a small one, and no larger in memory."""

from collections.abc import Iterator

from tests.bench.campaigns import into_new_channels
from tests.bench.comparison import speed
from tests.bench.databases import BenchDatabase, Line, open_bench_database
from tests.bench.latency_samples import growth, sampled_run, warm_up
from tests.bench.runs import assert_exact, completed_run
from tests.harness import hello_campaign

_GOAL = 0.8
_SAMPLE_SECONDS = 0.2


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    """One round of each."""
    with open_bench_database(bench_database.kind, warm_up(bench_database.users)) as small:
        url = small.fresh()
        run = completed_run(small, url, into_new_channels)
        assert_exact(url, run.campaign, small.users, channels_created=small.users)
    yield Line(
        f"campaign to {small.users:,}", speed(small.users, run.seconds), f"{run.seconds:.2f} s"
    )
    url = bench_database.fresh()
    samples = list(sampled_run(bench_database, url, into_new_channels, _SAMPLE_SECONDS))
    campaign = samples[-1].campaign
    assert_exact(url, campaign, bench_database.users, channels_created=bench_database.users)
    seconds = hello_campaign.run_seconds(campaign)
    yield Line(
        f"campaign to {bench_database.users:,}",
        speed(bench_database.users, seconds),
        f"{seconds:.1f} s",
    )
    ratio = (bench_database.users / seconds) / (small.users / run.seconds)
    yield Line("of the small one's speed", f"{ratio:.2f}", f"goal: at least {_GOAL}")
    yield from growth(bench_database, samples)
