"""Measures what checking tokens costs a campaign and a small call."""

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from time import perf_counter

import grpc

from chat_store.access.scopes import Scope
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as pb
from herald.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from tests.bench.campaigns import into_new_channels
from tests.bench.comparison import speed
from tests.bench.databases import BenchDatabase, Line
from tests.bench.runs import assert_exact, until_completed, warm_pair
from tests.harness import hello_campaign
from tests.harness.processes import Server, free_address, servers
from tests.harness.tokens import made_token, on_loopback

_OFF = "unchecked"
_TOKENS = {"HERALD_AUTH": "tokens"}
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    _OFF: {},
    # the same once more, for what the machine alone makes of it
    "unchecked, again": {},
    "tokens": _TOKENS,
    "tokens with a limit": {**_TOKENS, "HERALD_TOKEN_CALLS_PER_SECOND": "1000000"},
}
"""What is compared with the first of them, in turns."""

_CAMPAIGN_ROUNDS = 5
_CALL_ROUNDS, _CALLS, _FIRST_CALLS = 200, 25, 500
_RATE_GOAL, _MEDIAN_GOAL_MILLISECONDS = 0.97, 0.2

_Call = Callable[[], Awaitable[object]]


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    yield from _campaigns(bench_database)
    yield from asyncio.run(_small_calls(bench_database))


def _campaigns(bench_database: BenchDatabase) -> Iterator[Line]:
    rounds: dict[str, list[float]] = defaultdict(list)
    for _ in range(_CAMPAIGN_ROUNDS):
        for name, settings in _SETTINGS.items():
            rounds[name].append(_campaign_seconds(bench_database, settings))
    best = {name: min(seconds) for name, seconds in rounds.items()}
    for name, seconds in best.items():
        ratio = f"{best[_OFF] / seconds:.3f} of {_OFF}, goal: at least {_RATE_GOAL}"
        remark = f"{seconds:.2f} s, best of {_CAMPAIGN_ROUNDS}; {ratio}"
        yield Line(f"campaign, {name}", speed(bench_database.users, seconds), remark)


def _campaign_seconds(bench_database: BenchDatabase, settings: Mapping[str, str]) -> float:
    url = bench_database.fresh()
    credentials = None
    if settings:
        own = {"HERALD_TOKEN": made_token(url, Scope.SEGMENTS_READ)}
        settings = {**settings, **own}
        credentials = on_loopback(made_token(url, *Scope))
    with warm_pair(bench_database, url, settings, credentials) as pair:
        campaign = until_completed(bench_database, pair, into_new_channels(pair))
    assert_exact(url, campaign, bench_database.users, channels_created=bench_database.users)
    return hello_campaign.run_seconds(campaign)


async def _small_calls(bench_database: BenchDatabase) -> list[Line]:
    """GetUser, one at a time, in turns at servers of each kind; compared within each turn."""
    rounds: dict[str, list[float]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        callers = {
            name: await _caller(stack, bench_database, settings)
            for name, settings in _SETTINGS.items()
        }
        for call, _ in callers.values():
            await _median_milliseconds(call, _FIRST_CALLS)
        before = {name: server.processor_seconds() for name, (_, server) in callers.items()}
        names = list(callers)
        for turn in range(_CALL_ROUNDS):
            # none is always the one after another
            for name in names if turn % 2 else reversed(names):
                call, _ = callers[name]
                rounds[name].append(await _median_milliseconds(call, _CALLS))
        used = {
            name: 1_000_000 * (server.processor_seconds() - before[name]) / (_CALL_ROUNDS * _CALLS)
            for name, (_, server) in callers.items()
        }
    lines = []
    for name in _SETTINGS:
        medians = rounds[name]
        pairs = zip(medians, rounds[_OFF], strict=True)
        more = statistics.median(median - off for median, off in pairs)
        lines.append(
            Line(
                f"small call, {name}, median",
                f"{statistics.median(medians):.3f} ms",
                f"{more:+.3f} ms, goal: at most +{_MEDIAN_GOAL_MILLISECONDS} ms;"
                f" {used[name]:.0f} us of the server's cores, {used[name] / used[_OFF]:.3f} of"
                f" {_OFF}; {_CALL_ROUNDS} rounds of {_CALLS} calls",
            )
        )
    return lines


async def _caller(
    stack: AsyncExitStack, bench_database: BenchDatabase, settings: Mapping[str, str]
) -> tuple[_Call, Server]:
    url = bench_database.empty()
    metadata: tuple[tuple[str, str], ...] = ()
    if settings:
        token = await asyncio.to_thread(made_token, url, Scope.CHAT_WRITE)
        metadata = (("authorization", f"Bearer {token}"),)
    server = await asyncio.to_thread(_started, url, bench_database, settings)
    stack.push_async_callback(asyncio.to_thread, server.stop)
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
    stub = ChatServiceStub(channel)
    ann = pb.UpsertUsersRequest(users=[chat_pb2.User(id="ann", name="Ann")])
    await stub.UpsertUsers(ann, metadata=metadata)
    request = pb.GetUserRequest(id="ann")

    async def call() -> None:
        await stub.GetUser(request, metadata=metadata)

    return call, server


def _started(url: str, bench_database: BenchDatabase, settings: Mapping[str, str]) -> Server:
    logs = bench_database.folder / "logs"
    logs.mkdir(exist_ok=True)
    server, _ = servers(url, free_address(), free_address(), settings=settings, logs=logs)
    server.start()
    return server


async def _median_milliseconds(call: _Call, times: int) -> float:
    taken = []
    for _ in range(times):
        begin = perf_counter()
        await call()
        taken.append(perf_counter() - begin)
    return 1_000 * statistics.median(taken)
