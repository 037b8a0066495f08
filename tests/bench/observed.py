"""What metrics and traces cost a campaign: runs with and without them, in turn."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import ProxyHandler, build_opener

from tests.bench.campaigns import into_new_channels
from tests.bench.comparison import speed
from tests.bench.databases import BenchDatabase, Line
from tests.bench.runs import PRODUCTION, assert_exact, until_completed, warm_pair
from tests.harness import hello_campaign
from tests.harness.processes import free_address

_ROUNDS = 3
_SCRAPE_SECONDS = 1.0
_GOAL = 0.97


@dataclass(frozen=True, slots=True)
class _Observed:
    """The seconds of a run by the server's clock, and those of processors in all its processes."""

    seconds: float
    processor_seconds: float


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    """Processor time is compared, too, because other work on the machine does not change it."""
    without, observed = [], []
    for _ in range(_ROUNDS):
        without.append(_run(bench_database, {}))
        with _collector() as url, _scraped() as listens:
            sampling = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": url,
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.01",
            }
            observed.append(_run(bench_database, {**listens, **sampling}))
    fastest = min(run.seconds for run in without), min(run.seconds for run in observed)
    yield Line("campaign", speed(bench_database.users, fastest[0]), f"best of {_ROUNDS}")
    yield Line(
        "  with metrics and traces",
        speed(bench_database.users, fastest[1]),
        f"scraped every {_SCRAPE_SECONDS:g} s, traces sampled at 1 %",
    )
    yield Line("  of the speed", f"{fastest[0] / fastest[1]:.3f}", f"goal: at least {_GOAL}")
    least = (
        min(run.processor_seconds for run in without),
        min(run.processor_seconds for run in observed),
    )
    yield Line("  processor time", f"{least[1] / least[0]:.3f}", f"{least[0]:.2f} s without")


def _run(bench_database: BenchDatabase, settings: Mapping[str, str]) -> _Observed:
    url = bench_database.fresh()
    with warm_pair(bench_database, url, {**PRODUCTION, **settings}) as pair:
        servers = (pair.segment, pair.campaign)
        before = sum(server.processor_seconds() for server in servers)
        campaign = until_completed(bench_database, pair, into_new_channels(pair))
        after = sum(server.processor_seconds() for server in servers)
        assert_exact(url, campaign, bench_database.users, channels_created=bench_database.users)
        return _Observed(hello_campaign.run_seconds(campaign), after - before)


@contextmanager
def _scraped() -> Iterator[Mapping[str, str]]:
    """Where the processes are to listen; they are scraped as Prometheus does it, but more often."""
    addresses = {
        f"HERALD_{process}_METRICS_LISTEN": free_address()
        for process in ("SEGMENT", "CAMPAIGN", "SENDER", "DISPATCHER")
    }
    ended = threading.Event()
    # without a proxy of the environment
    opener = build_opener(ProxyHandler({}))

    def scrape() -> None:
        while not ended.wait(_SCRAPE_SECONDS):
            for address in addresses.values():
                try:
                    opener.open(f"http://{address}/metrics", timeout=_SCRAPE_SECONDS).read()
                except OSError:
                    # not there yet, or not any more
                    continue

    scraping = threading.Thread(target=scrape)
    scraping.start()
    try:
        yield addresses
    finally:
        ended.set()
        scraping.join()


@contextmanager
def _collector() -> Iterator[str]:
    """Takes traces and forgets them."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Forgetting)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


class _Forgetting(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""
