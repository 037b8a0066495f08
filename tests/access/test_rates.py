"""A token makes so many calls a second, and is told so with each answer; the clock is moved."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from fractions import Fraction
from math import ceil
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from chat_store.access.scopes import Scope
from chat_store.access.sql_tokens import SqlTokenStore
from chat_store.access.tokens import id_in
from chat_store.database.engine import Database, open_database
from herald.campaign.v1 import campaign_pb2, campaign_service_pb2_grpc
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald_rpc.access import guard as guard_module
from herald_rpc.access.guard import TokenGuard
from herald_rpc.access.rates import CallRate
from herald_rpc.wire.failures import chat_failure
from segment_service.settings import SegmentSettings
from tests.access.guarded_pair import Answer, answer_to, bearing, guarded_pair, issue
from tests.access.test_guard import Clock
from tests.access.test_tokens import creation, with_segment
from tests.rpc import raw_service
from tests.rpc.raw_service import NAME, RawService, running, status_in

LIMIT = 4
SCOPE = Scope.EVENTS_READ
KINDS = ("Ask", "Pages", "Collect")
EXCEEDED = "ERROR_REASON_RATE_LIMIT_EXCEEDED"


@given(
    limit=st.integers(1, 50),
    pauses=st.lists(st.fractions(0, 2, max_denominator=100), min_size=1, max_size=60),
)
def test_in_no_time_are_there_more_calls_than_its_seconds_allow_and_one_second_more(
    limit: int, pauses: list[Fraction]
) -> None:
    now = Fraction(0)
    rate = CallRate(limit, float(now))
    made: list[Fraction] = []
    for pause in pauses:
        now += pause
        allowance = rate.take(float(now))
        assert 0 <= allowance.remaining < limit or limit == 1
        assert 0 <= allowance.full_seconds <= 1
        if not allowance.retry_seconds:
            made.append(now)
        else:
            assert allowance.remaining == 0
            assert allowance.retry_seconds <= 1 / limit

    for first, began in enumerate(made):
        for last in range(first, len(made)):
            # what floating-point numbers lose
            most = limit * (made[last] - began + 1) + Fraction(1, 1_000)
            assert last - first + 1 <= most


@pytest.mark.parametrize("limit", [1, 3, 7, 1_000])
def test_a_call_after_the_pause_that_a_refusal_asks_for_is_made(limit: int) -> None:
    rate, now = CallRate(limit, 0.0), 0.0
    for _ in range(200):
        allowance = rate.take(now)
        if allowance.retry_seconds:
            now += ceil(1_000 * allowance.retry_seconds) / 1_000
            assert not rate.take(now).retry_seconds


class Limited:
    """A server that takes `LIMIT` calls a second of a token."""

    def __init__(self, service: RawService, guard: TokenGuard) -> None:
        self.service = service
        self.guard = guard

    def begin(self, text: str | None, method: str = "Ask") -> Any:
        metadata = bearing(text)
        match method:
            case "Pages":
                return self.service.pages(method)(b"", metadata=metadata)
            case "Collect":
                return self.service.collecting(method)(iter([b""]), metadata=metadata)
            case _:
                return self.service.unary(method)(b"", metadata=metadata)

    async def answer(self, text: str | None, method: str = "Ask") -> tuple[Answer, dict[str, str]]:
        """The answer, and what its trailers say of the limit."""
        call = self.begin(text, method)
        answer = await answer_to(call)
        if method == "Pages" and answer.code is grpc.StatusCode.OK:
            while await call.read() is not grpc.aio.EOF:
                pass
        return answer, _limit_trailers(await call.trailing_metadata())

    async def use_up(self, text: str) -> None:
        for _ in range(LIMIT):
            assert (await self.answer(text))[0].code is grpc.StatusCode.OK


def _limit_trailers(trailers: Any) -> dict[str, str]:
    return {key: value for key, value in trailers if key.startswith("x-ratelimit-")}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(guard_module, "monotonic", moved.monotonic)
    return moved


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[Database]:
    database = open_database(sqlite_url)
    yield database
    await database.close()


@asynccontextmanager
async def serving(
    store: Database, clock: Clock, calls_per_second: int | None
) -> AsyncIterator[Limited]:
    async def answer(_request: bytes, _context: Any) -> bytes:
        return b"here"

    async def pages(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"page"

    async def collect(requests: Any, _context: Any) -> bytes:
        return b"".join([request async for request in requests])

    methods = {
        "Ask": raw_service.unary(answer),
        "Denied": raw_service.unary(answer),
        "Pages": raw_service.pages(pages),
        "Collect": raw_service.collecting(collect),
    }
    permissions = {f"/{NAME}/{method}": SCOPE for method in KINDS}
    guard = TokenGuard(
        SqlTokenStore(store), clock.now, permissions, calls_per_second=calls_per_second
    )
    async with running(methods, guard=guard, failure_for=chat_failure) as service:
        yield Limited(service, guard)


@pytest.fixture
async def limited(store: Database, clock: Clock) -> AsyncIterator[Limited]:
    async with serving(store, clock, LIMIT) as server:
        yield server


@pytest.mark.parametrize("method", KINDS)
async def test_a_call_too_many_is_refused_with_its_reason_and_the_time_to_come_again(
    method: str, limited: Limited, store: Database, clock: Clock
) -> None:
    text = await issue(store, SCOPE)
    id_ = id_in(text) or ""

    for left in reversed(range(LIMIT)):
        answer, trailers = await limited.answer(text, method)
        assert answer.code is grpc.StatusCode.OK
        assert (trailers["x-ratelimit-limit"], trailers["x-ratelimit-remaining"]) == (
            "4",
            str(left),
        )
        # all of them are free again when what was taken has come back
        full_at = clock.now().timestamp() + (LIMIT - left) / LIMIT
        assert int(trailers["x-ratelimit-reset"]) == ceil(full_at)
    call = limited.begin(text, method)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await (call.read() if method == "Pages" else call)

    error = raised.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == f"token {id_} may make 4 calls a second to this server"
    info, quota, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.QuotaFailure(),
        error_details_pb2.RetryInfo(),
    )
    for detail, unpacked in zip(status_in(error).details, (info, quota, retry), strict=True):
        assert detail.Unpack(unpacked)
    assert (info.reason, info.domain) == (EXCEEDED, "herald")
    assert dict(info.metadata) == {"token_id": id_, "limit": "4"}
    assert quota.violations[0].subject == f"token:{id_}"
    assert retry.retry_delay.ToTimedelta() == timedelta(seconds=0.25)
    trailers = _limit_trailers(error.trailing_metadata())
    assert (trailers["x-ratelimit-limit"], trailers["x-ratelimit-remaining"]) == ("4", "0")

    clock.seconds += 0.25
    assert (await limited.answer(text, method))[0].code is grpc.StatusCode.OK
    assert (await limited.answer(text, method))[0].reason == EXCEEDED


async def test_tokens_take_no_calls_from_each_other(limited: Limited, store: Database) -> None:
    one, other = await issue(store, SCOPE), await issue(store, SCOPE)
    await limited.use_up(one)

    assert (await limited.answer(one))[0].reason == EXCEEDED
    await limited.use_up(other)


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("Denied", grpc.StatusCode.PERMISSION_DENIED),
        ("Unknown", grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_calls_that_are_refused_for_what_they_ask_count_too(
    method: str, code: grpc.StatusCode, limited: Limited, store: Database
) -> None:
    text = await issue(store, SCOPE)

    answers = [await limited.answer(text, method) for _ in range(LIMIT + 1)]

    assert [answer.code for answer, _ in answers[:-1]] == [code] * LIMIT
    assert answers[-1][0].reason == EXCEEDED
    remaining = [trailers["x-ratelimit-remaining"] for _, trailers in answers]
    assert remaining == ["3", "2", "1", "0", "0"]
    assert (await limited.answer(text))[0].reason == EXCEEDED


async def test_calls_without_a_valid_token_count_for_nobody(
    limited: Limited, store: Database
) -> None:
    text = await issue(store, SCOPE)
    forged = f"{text[:-1]}{'1' if text.endswith('0') else '0'}"

    for bad in (None, "garbage", forged):
        for _ in range(LIMIT + 1):
            answer, trailers = await limited.answer(bad)
            assert answer.code is grpc.StatusCode.UNAUTHENTICATED
            assert trailers == {}

    await limited.use_up(text)


async def test_health_and_reflection_are_answered_and_do_not_count(
    limited: Limited, store: Database
) -> None:
    text = await issue(store, SCOPE)
    channel: Any = limited.service.channel
    health: Any = health_pb2_grpc.HealthStub(channel)
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    async def ask_both() -> None:
        checked = await health.Check(health_pb2.HealthCheckRequest(), metadata=bearing(text))
        assert checked.status == health_pb2.HealthCheckResponse.SERVING
        call = reflection.ServerReflectionInfo(iter([request]), metadata=bearing(text))
        assert (await call.read()).HasField("list_services_response")

    for _ in range(LIMIT):
        await ask_both()
    await limited.use_up(text)
    assert (await limited.answer(text))[0].reason == EXCEEDED
    await ask_both()


async def test_an_operator_is_told_once_of_a_token_that_reaches_its_limit(
    limited: Limited, store: Database, clock: Clock
) -> None:
    text = await issue(store, SCOPE)
    for _ in range(2):
        with capture_logs() as logs:
            for _ in range(3 * LIMIT):
                await limited.answer(text)
        (line,) = [line for line in logs if line["log_level"] == "warning"]
        assert (line["token_id"], line["limit"]) == (id_in(text), LIMIT)
        # it has made fewer calls meanwhile
        clock.seconds += 1


async def test_what_is_counted_for_a_token_is_forgotten_with_the_token(
    limited: Limited, store: Database, clock: Clock
) -> None:
    for _ in range(20):
        await limited.answer(await issue(store, SCOPE))
    for _ in range(20):
        await limited.answer(f"herald_{'0' * 16}_{'0' * 64}")
    assert len(limited.guard._known) == 20

    clock.seconds += 61
    await limited.guard.run_once()

    assert len(limited.guard._known) == 0


async def test_without_a_limit_answers_say_nothing_of_one(store: Database, clock: Clock) -> None:
    text = await issue(store, SCOPE)
    async with serving(store, clock, None) as unlimited:
        for _ in range(5 * LIMIT):
            answer, trailers = await unlimited.answer(text)
            assert answer.code is grpc.StatusCode.OK
            assert trailers == {}


async def test_both_servers_limit_a_token_each_by_itself(sqlite_url: str) -> None:
    async with guarded_pair(sqlite_url, calls_per_second=1) as pair:
        text = await pair.issue(Scope.CHAT_READ, Scope.EVENTS_READ)
        for server, method in (
            ("segment", "/herald.chat.v1.ChatService/QueryUsers"),
            ("campaign", "/herald.event.v1.EventService/QueryWebhooks"),
        ):
            stub: Any = pair.channels[server].unary_unary(method, None, None)
            call = stub(b"", metadata=bearing(text))
            assert (await answer_to(call)).code is grpc.StatusCode.OK
            assert _limit_trailers(await call.trailing_metadata())["x-ratelimit-limit"] == "1"
            answer = Answer(grpc.StatusCode.OK)
            while answer.code is grpc.StatusCode.OK:
                answer = await answer_to(stub(b"", metadata=bearing(text)))
            assert answer.reason == EXCEEDED


@pytest.mark.nightly
async def test_a_campaign_whose_server_reaches_its_limit_waits_and_completes(
    sqlite_url: str,
) -> None:
    async with guarded_pair(sqlite_url, calls_per_second=2) as pair:
        await with_segment(pair)
        texts = [await pair.issue(Scope.CAMPAIGNS_WRITE, Scope.CAMPAIGNS_SEND) for _ in range(2)]
        stub: Any = campaign_service_pb2_grpc.CampaignServiceStub(pair.channels["campaign"])
        await _repeated(lambda: stub.CreateCampaign(creation(), metadata=bearing(texts[0])))
        start = pb.StartCampaignRequest(id="spring")
        await _repeated(lambda: stub.StartCampaign(start, metadata=bearing(texts[0])))
        watch = stub.WatchCampaign(pb.WatchCampaignRequest(id="spring"), metadata=bearing(texts[1]))

        *_, last = [state.campaign async for state in watch]

    assert last.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETED
    assert last.stats.messages_sent == 2


async def _repeated(call: Callable[[], Any]) -> None:
    """As a caller does that is refused for a while, because its server is.

    It waits for a second, in which the server's token is good for two calls again: StartCampaign
    makes two, and a caller that repeats it at each chance would use up the first one for ever.
    """
    while True:
        answer = await answer_to(call())
        if answer.code is grpc.StatusCode.OK:
            return
        assert answer.code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
        await asyncio.sleep(1.0)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"HERALD_AUTH": "tokens", "HERALD_TOKEN_CALLS_PER_SECOND": "0"}, "greater than"),
        ({"HERALD_AUTH": "tokens", "HERALD_TOKEN_CALLS_PER_SECOND": "fast"}, "valid integer"),
        ({"HERALD_TOKEN_CALLS_PER_SECOND": "5"}, "needs HERALD_AUTH=tokens"),
    ],
)
def test_a_limit_that_can_not_be_is_refused(
    variables: Mapping[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ValidationError, match=problem):
        SegmentSettings()
