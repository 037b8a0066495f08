"""A token that is revoked or expired is refused in time, and its streams end; the clock is moved."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from chat_store.access.scopes import Scope
from chat_store.access.sql_tokens import SqlTokenStore
from chat_store.access.tokens import Token, id_in
from chat_store.database.engine import Database
from chat_store.errors import StoreUnavailableError
from herald_rpc.access import guard as guard_module
from herald_rpc.access.guard import TokenGuard
from herald_rpc.server.failures import Failure
from herald_rpc.server.reflection import SERVICE_NAMES
from herald_rpc.server.serving import RunningServer, serving
from herald_rpc.wire.failures import chat_failure
from tests.access.guarded_pair import Answer, answer_to, bearing, issue
from tests.rpc import raw_service
from tests.rpc.raw_service import NAME, RawService, running

pytestmark = pytest.mark.nightly_on("postgresql")

SCOPE = Scope.EVENTS_READ
PERMISSIONS = {f"/{NAME}/Ask": SCOPE, f"/{NAME}/Pages": SCOPE}


class Clock:
    """The time of day and the monotonic clock, moved together."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = datetime.now(UTC)

    def now(self) -> datetime:
        return self._began + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1_000 + self.seconds


class CountedStore(SqlTokenStore):
    """The real one; counts its reads, and can be down."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.reads = 0
        self.is_down = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def by_id(self, ids: Collection[str]) -> Mapping[str, Token]:
        self.reads += 1
        await self.answers.wait()
        if self.is_down:
            raise StoreUnavailableError("down")
        return await super().by_id(ids)


class Guarded:
    """A server with a guard that only runs when it is told to."""

    def __init__(self, service: RawService, guard: TokenGuard, store: CountedStore) -> None:
        self.service = service
        self.guard = guard
        self.store = store

    async def ask(self, text: str, method: str = "Ask") -> Answer:
        return await answer_to(self.service.unary(method)(b"", metadata=bearing(text)))

    def pages(self, text: str) -> Any:
        return self.service.pages("Pages")(b"", metadata=bearing(text))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(guard_module, "monotonic", moved.monotonic)
    return moved


@pytest.fixture
async def guarded(database: Database, clock: Clock) -> AsyncIterator[Guarded]:
    async def answer(_request: bytes, _context: Any) -> bytes:
        return b"here"

    async def pages(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    def failure_for(error: Exception) -> Failure | None:
        return chat_failure(error)

    store = CountedStore(database)
    guard = TokenGuard(store, clock.now, PERMISSIONS)
    methods = {
        "Ask": raw_service.unary(answer),
        "Forgotten": raw_service.unary(answer),
        "Pages": raw_service.pages(pages),
    }
    async with running(methods, guard=guard, failure_for=failure_for) as service:
        yield Guarded(service, guard, store)


def refused(problem: str) -> tuple[grpc.StatusCode, str]:
    return grpc.StatusCode.UNAUTHENTICATED, f"ERROR_REASON_TOKEN_{problem}"


async def test_a_method_without_an_entry_is_denied_to_a_token_with_every_scope(
    guarded: Guarded, database: Database
) -> None:
    text = await issue(database, *Scope)

    answer = await guarded.ask(text, "Forgotten")

    assert answer.code is grpc.StatusCode.PERMISSION_DENIED
    assert answer.reason == "ERROR_REASON_SCOPE_MISSING"
    assert answer.metadata["scope"] == ""


async def test_a_token_in_use_is_read_once_and_then_known(
    guarded: Guarded, database: Database
) -> None:
    text = await issue(database, SCOPE)

    for _ in range(50):
        assert (await guarded.ask(text)).code is grpc.StatusCode.OK

    assert guarded.store.reads == 1


async def test_a_revoked_token_is_refused_within_five_seconds_even_if_the_check_is_stuck(
    guarded: Guarded, database: Database, clock: Clock
) -> None:
    text = await issue(database, SCOPE)
    assert (await guarded.ask(text)).code is grpc.StatusCode.OK
    await guarded.store.revoke(id_in(text) or "", clock.now())

    clock.seconds += 4.9
    answer = await guarded.ask(text)

    assert (answer.code, answer.reason) == refused("REVOKED")


async def test_the_check_finds_a_revoked_token_at_once(
    guarded: Guarded, database: Database, clock: Clock
) -> None:
    text = await issue(database, SCOPE)
    await guarded.ask(text)
    await guarded.store.revoke(id_in(text) or "", clock.now())

    await guarded.guard.run_once()
    reads = guarded.store.reads
    answer = await guarded.ask(text)

    assert (answer.code, answer.reason) == refused("REVOKED")
    assert guarded.store.reads == reads


async def test_an_expired_token_is_refused_from_that_moment_on(
    guarded: Guarded, database: Database, clock: Clock
) -> None:
    text = await issue(database, SCOPE, expires_at=clock.now() + timedelta(seconds=1))
    assert (await guarded.ask(text)).code is grpc.StatusCode.OK

    clock.seconds += 1
    answer = await guarded.ask(text)

    assert (answer.code, answer.reason) == refused("EXPIRED")


@pytest.mark.parametrize("end", ["REVOKED", "EXPIRED"])
async def test_the_streams_of_a_token_end_with_it_and_those_of_others_go_on(
    end: str, guarded: Guarded, database: Database, clock: Clock
) -> None:
    ending = await issue(database, SCOPE, expires_at=clock.now() + timedelta(hours=1))
    other = await issue(database, SCOPE)
    streams = [guarded.pages(ending) for _ in range(3)]
    going_on = guarded.pages(other)
    for stream in (*streams, going_on):
        assert await stream.read() == b"first"
    if end == "REVOKED":
        await guarded.store.revoke(id_in(ending) or "", clock.now())
    else:
        clock.seconds += 3_600
        # the time alone decides, without the database
        guarded.store.is_down = True
    try:
        await guarded.guard.run_once()
    except StoreUnavailableError:
        assert end == "EXPIRED"

    for stream in streams:
        answer = await answer_to(stream)
        assert (answer.code, answer.reason) == refused(end)
        assert answer.metadata == {"token_id": id_in(ending)}
    assert not going_on.done()
    going_on.cancel()


async def test_a_stream_is_cut_though_its_token_has_made_no_call_for_long(
    guarded: Guarded, database: Database, clock: Clock
) -> None:
    text = await issue(database, SCOPE)
    stream = guarded.pages(text)
    assert await stream.read() == b"first"

    clock.seconds += 3_600
    await guarded.guard.run_once()
    assert not stream.done()
    await guarded.store.revoke(id_in(text) or "", clock.now())
    await guarded.guard.run_once()

    assert (await answer_to(stream)).reason == "ERROR_REASON_TOKEN_REVOKED"


async def test_without_the_database_known_tokens_are_good_for_seconds_and_then_none_is(
    guarded: Guarded, database: Database, clock: Clock
) -> None:
    text = await issue(database, SCOPE)
    stream = guarded.pages(text)
    assert await stream.read() == b"first"
    guarded.store.is_down = True

    clock.seconds += 2
    assert (await guarded.ask(text)).code is grpc.StatusCode.OK
    clock.seconds += 2.9
    answer = await guarded.ask(text)

    assert (answer.code, answer.reason) == (
        grpc.StatusCode.UNAVAILABLE,
        "ERROR_REASON_UNAVAILABLE",
    )
    assert not stream.done()
    guarded.store.is_down = False
    assert (await guarded.ask(text)).code is grpc.StatusCode.OK
    stream.cancel()


async def test_a_token_that_nobody_uses_is_not_read_again(
    guarded: Guarded, database: Database, clock: Clock
) -> None:
    await guarded.ask(await issue(database, SCOPE))
    await guarded.guard.run_once()
    reads = guarded.store.reads

    clock.seconds += 61
    await guarded.guard.run_once()

    assert guarded.store.reads == reads


async def test_while_a_server_starts_it_looks_up_no_token(database: Database, clock: Clock) -> None:
    store = CountedStore(database)
    text = await issue(database, SCOPE)
    answers: list[Answer] = []

    async def prepare(server: RunningServer) -> None:
        async with grpc.aio.insecure_channel(server.address) as channel:
            for method in (f"/{NAME}/Ask", f"/{SERVICE_NAMES[0]}/ServerReflectionInfo"):
                call: Any = channel.stream_stream(method, None, None)
                # without a message: gRPC's client fails if it sends one when the status arrives
                answers.append(await answer_to(call(metadata=bearing(text))))

    async with serving(
        address="127.0.0.1:0",
        services={},
        failure_for=chat_failure,
        reflection=True,
        guard=TokenGuard(store, clock.now, PERMISSIONS),
        prepare=prepare,
    ):
        pass

    unavailable = Answer(grpc.StatusCode.UNAVAILABLE, "ERROR_REASON_UNAVAILABLE")
    assert answers == [unavailable, unavailable]
    assert store.reads == 0


async def test_the_last_use_is_noted_to_the_minute(
    guarded: Guarded, database: Database, clock: Clock
) -> None:
    text = await issue(database, SCOPE)
    assert (await guarded.store.get(id_in(text) or "")).last_used_at is None

    for minute in range(2):
        for _ in range(5):
            await guarded.ask(text)
        await guarded.guard.run_once()
        noted = (await guarded.store.get(id_in(text) or "")).last_used_at

        assert noted == clock.now().replace(second=0, microsecond=0), minute
        clock.seconds += 60
        # the token as it is stored now
        await guarded.guard.run_once()


async def test_tokens_that_are_not_known_share_reads_of_the_database(
    guarded: Guarded, database: Database
) -> None:
    good = await issue(database, SCOPE)
    texts = [f"herald_{number:016x}_{'0' * 64}" for number in range(99)]
    guarded.store.answers.clear()

    calls = [asyncio.create_task(guarded.ask(text)) for text in [*texts, good]]
    while guarded.guard._waiting < len(calls):  # noqa: ASYNC110 - no event tells of them
        await asyncio.sleep(0)
    guarded.store.answers.set()
    *answers, answer = await asyncio.gather(*calls)

    assert {(answer.code, answer.reason) for answer in answers} == {refused("INVALID")}
    assert answer.code is grpc.StatusCode.OK
    # the first call has one, and all others have the next
    assert guarded.store.reads == 2


async def test_calls_with_unknown_tokens_do_not_pile_up(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "_MAX_WAITING", 10)
    guarded.store.answers.clear()
    texts = [f"herald_{number:016x}_{'0' * 64}" for number in range(30)]

    calls = [asyncio.create_task(guarded.ask(text)) for text in texts]
    done: set[asyncio.Task[Answer]] = set()
    while len(done) < 20:
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    guarded.store.answers.set()
    answers = await asyncio.gather(*calls)

    reasons = sorted(answer.reason for answer in answers)
    overloaded, invalid = ["ERROR_REASON_OVERLOADED"] * 20, ["ERROR_REASON_TOKEN_INVALID"] * 10
    assert reasons == overloaded + invalid
