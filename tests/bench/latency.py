"""How long other callers wait while a campaign runs at full speed, and how long just before."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import grpc

from herald.campaign.v1 import campaign_pb2, campaign_service_pb2
from herald.chat.v1 import chat_pb2, chat_service_pb2
from herald.segment.v1 import segment_pb2, segment_service_pb2
from tests.bench.databases import BenchDatabase, Line
from tests.bench.runs import assert_exact, completion_timeout
from tests.harness import hello_campaign
from tests.harness.processes import Pair, running_pair

_CALLS_PER_SECOND = 10
_ROUNDS = 3
_FIRST_CALLS = 20
_IDLE_SECONDS = 3.0
_GOAL_MILLISECONDS = {"AddTargets": 250, "UpsertUsers": 250, "GetCampaign": 30}
_LIST_ID = "newcomers"
_COMPLETED = campaign_pb2.CAMPAIGN_STATUS_COMPLETED

_Call = Callable[[int], "grpc.Future[Any]"]


@dataclass(slots=True)
class _Latencies:
    """In seconds, by the name of the call."""

    idle: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    meanwhile: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    """GetCampaign by itself, as who watches a campaign calls; then all calls in the same moments."""
    alone, together = _Latencies(), _Latencies()
    for _ in range(_ROUNDS):
        _measure(bench_database, alone, ["GetCampaign"])
        _measure(bench_database, together, list(_GOAL_MILLISECONDS))
    yield from _lines(alone, "meanwhile")
    yield from _lines(together, "meanwhile, with the others")


def _lines(found: _Latencies, when: str) -> Iterator[Line]:
    for name, seconds in found.meanwhile.items():
        yield Line(
            f"{name} {when}, p99",
            _percentile(seconds, 99),
            f"goal: at most {_GOAL_MILLISECONDS[name]} ms; median {_percentile(seconds, 50)},"
            f" {len(seconds)} calls, {_CALLS_PER_SECOND} a second, of warm servers",
        )
        idle = found.idle[name]
        yield Line(
            "  of idle servers",
            _percentile(idle, 99),
            f"median {_percentile(idle, 50)}, {len(idle)} calls, at the same pace just before",
        )


def _measure(bench_database: BenchDatabase, found: _Latencies, names: Collection[str]) -> None:
    url = bench_database.fresh()
    with running_pair(url, bench_database.folder / "logs") as pair:
        _create_list(pair)
        hello_campaign.upsert_sender(pair)
        audience = hello_campaign.create_segment(pair, hello_campaign.EVERYONE_BUT_THE_SENDER)
        campaign = hello_campaign.create_campaign(pair, audience)
        completed = threading.Event()
        calls = _calls(pair, campaign, completed)
        calls = {name: call for name, call in calls.items() if name in names}
        _warm_up(calls)
        with _probing(calls, found.idle):
            threading.Event().wait(_IDLE_SECONDS)
        hello_campaign.start(pair, campaign)
        with _probing(calls, found.meanwhile):
            assert completed.wait(completion_timeout(bench_database)), "the campaign is stuck"
        campaign = hello_campaign.get(pair, campaign)
    assert_exact(url, campaign, bench_database.users, channels_created=bench_database.users)


@contextmanager
def _probing(calls: Mapping[str, _Call], latencies: dict[str, list[float]]) -> Iterator[None]:
    """Makes the calls as long as the block lasts, and adds how long each has taken."""
    over = threading.Event()
    with ThreadPoolExecutor(len(calls)) as pool:
        probes = {name: pool.submit(_probe, call, over) for name, call in calls.items()}
        try:
            yield
        finally:
            over.set()
    for name, probe in probes.items():
        latencies[name] += probe.result()


def _warm_up(calls: Mapping[str, _Call]) -> None:
    """The first calls of a server compile its statements; many at once open its connections."""
    for call in calls.values():
        call(0).result()
        for future in [call(number) for number in range(_FIRST_CALLS)]:
            future.result()


def _probe(call: _Call, over: threading.Event) -> list[float]:
    """Calls at a steady pace, whether or not the call before is answered, until it is `over`.

    A call's time counts from the moment it was due.
    """
    answered: list[float] = []
    calls = []
    begin = time.monotonic()
    for number in count():
        due = begin + number / _CALLS_PER_SECOND
        if over.wait(max(0.0, due - time.monotonic())):
            break
        future = call(number)
        future.add_done_callback(partial(_note, answered, due))
        calls.append(future)
    failures = [future.exception() for future in calls]
    assert not any(failures), f"{len(calls)} calls, of which failed: {list(filter(None, failures))}"
    return answered


def _note(answered: list[float], due: float, _call: object) -> None:
    answered.append(time.monotonic() - due)


def _calls(
    pair: Pair, campaign: campaign_pb2.Campaign, completed: threading.Event
) -> dict[str, _Call]:
    """By name. GetCampaign sets `completed`: who asked besides would be measured with it."""

    def add_targets(number: int) -> "grpc.Future[Any]":
        request = segment_service_pb2.AddTargetsRequest(
            segment_id=_LIST_ID, target_ids=[f"newcomer-{number}"]
        )
        return pair.segments.AddTargets.future(request, timeout=hello_campaign.CALL_SECONDS)

    def upsert_users(number: int) -> "grpc.Future[Any]":
        # a role of their own keeps them out of the campaign's audience
        user = chat_pb2.User(id=f"newcomer-{number}", role="newcomer")
        request = chat_service_pb2.UpsertUsersRequest(users=[user])
        return pair.chat.UpsertUsers.future(request, timeout=hello_campaign.CALL_SECONDS)

    def get_campaign(_number: int) -> "grpc.Future[Any]":
        request = campaign_service_pb2.GetCampaignRequest(id=campaign.id)
        future = pair.campaigns.GetCampaign.future(request, timeout=hello_campaign.CALL_SECONDS)
        future.add_done_callback(check)
        return future

    def check(call: "grpc.Future[Any]") -> None:
        # an exception fails the probe
        if not call.exception() and call.result().campaign.status == _COMPLETED:
            completed.set()

    return {"AddTargets": add_targets, "UpsertUsers": upsert_users, "GetCampaign": get_campaign}


def _create_list(pair: Pair) -> None:
    segment = segment_pb2.Segment(id=_LIST_ID, type=segment_pb2.SEGMENT_TYPE_USER)
    request = segment_service_pb2.CreateSegmentRequest(segment=segment)
    pair.segments.CreateSegment(request, timeout=hello_campaign.CALL_SECONDS)


def _percentile(seconds: list[float], percent: int) -> str:
    ordered = sorted(seconds)
    at = min(len(ordered) - 1, len(ordered) * percent // 100)
    return f"{ordered[at] * 1000:.0f} ms"
