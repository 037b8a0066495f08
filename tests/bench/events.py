"""What events cost the sender, and how fast they get to a webhook, to JetStream and to a stream."""

import asyncio
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from herald.event.v1 import event_pb2
from herald.event.v1 import event_service_pb2 as pb
from tests.bench.campaigns import into_new_channels
from tests.bench.databases import BenchDatabase, Line
from tests.bench.runs import until_completed, warm_pair
from tests.harness import hello_campaign
from tests.harness.nats_server import running_nats
from tests.harness.processes import Pair

_MESSAGE = b'"type":"message.new"'
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)
_LOOK_SECONDS = 0.05
_GIVEN_UP_AFTER_SECONDS = 600.0


def measure(bench_database: BenchDatabase) -> Iterator[Line]:
    """A campaign without a consumer, then with a webhook of each kind, JetStream, and a stream."""
    alone = _campaign_seconds(bench_database)
    yield _rate("campaign, no consumer", bench_database.users, alone)
    for at_once in (500, 1):
        sending, delivery = _with_webhook(bench_database, at_once)
        what = f"webhook, {at_once} a request"
        yield _rate(f"campaign, {what}", bench_database.users, sending, alone)
        yield _rate(f"message.new, {what}", bench_database.users, delivery)
    sending, events, publishing = _with_jetstream(bench_database)
    yield _rate("campaign, JetStream", bench_database.users, sending, alone)
    yield Line("events of all types, JetStream", f"{events / publishing:,.0f}/s")
    yield _rate("message.new, stream", bench_database.users, _streaming_seconds(bench_database))


def _rate(what: str, targets: int, seconds: float, alone: float | None = None) -> Line:
    remark = f"{alone / seconds:.2f} of the rate without a consumer" if alone else ""
    return Line(what, f"{targets / seconds:,.0f}/s", remark)


def _campaign_seconds(bench_database: BenchDatabase) -> float:
    with warm_pair(bench_database, bench_database.fresh()) as pair:
        return _run_seconds(bench_database, pair)


def _with_webhook(bench_database: BenchDatabase, at_once: int) -> tuple[float, float]:
    """Seconds of the campaign, and from its start until the last event has arrived."""
    with warm_pair(bench_database, bench_database.fresh()) as pair, _counting() as counter:
        webhook = event_pb2.Webhook(
            id="bench", url=counter.url, event_types=["message.new"], max_batch_events=at_once
        )
        request = pb.CreateWebhookRequest(webhook=webhook)
        pair.events.CreateWebhook(request, timeout=hello_campaign.CALL_SECONDS)
        begin = time.perf_counter()
        seconds = _run_seconds(bench_database, pair)
        while counter.messages < bench_database.users:
            assert time.perf_counter() - begin < _GIVEN_UP_AFTER_SECONDS, counter.messages
            threading.Event().wait(_LOOK_SECONDS)
        return seconds, time.perf_counter() - begin


def _with_jetstream(bench_database: BenchDatabase) -> tuple[float, int, float]:
    """Seconds of the campaign; then how many events NATS has at its end, and after how long."""
    folder = Path(tempfile.mkdtemp(prefix="nats-", dir=bench_database.folder))
    with running_nats(folder, sync_interval="2m") as nats_server:
        settings = {"HERALD_NATS_URL": nats_server.url}
        with warm_pair(bench_database, bench_database.fresh(), settings) as pair:
            begin = time.perf_counter()
            seconds = _run_seconds(bench_database, pair)
            events = asyncio.run(_published(nats_server.url))
            return seconds, events, time.perf_counter() - begin


async def _published(url: str) -> int:
    """The number of messages in the stream, once the last one of the campaign is there."""
    client = await nats.connect(url)
    context = client.jetstream()
    try:
        async with asyncio.timeout(_GIVEN_UP_AFTER_SECONDS):
            while not (await _info(context)).state.subjects:  # noqa: ASYNC110 - over NATS
                await asyncio.sleep(_LOOK_SECONDS)
        return (await _info(context)).state.messages
    finally:
        await client.close()


async def _info(context: JetStreamContext) -> StreamInfo:
    return await context.stream_info("HERALD", subjects_filter="herald.events.campaign.completed.>")


def _streaming_seconds(bench_database: BenchDatabase) -> float:
    """All events of a campaign that is completed."""
    with warm_pair(bench_database, bench_database.fresh()) as pair:
        _run_seconds(bench_database, pair)
        begin, received = time.perf_counter(), 0
        call = pair.events.StreamEvents(pb.StreamEventsRequest(types=["message.new"]))
        for response in call:
            received += len(response.events)
            if received == bench_database.users:
                break
        call.cancel()
        return time.perf_counter() - begin


def _run_seconds(bench_database: BenchDatabase, pair: Pair) -> float:
    campaign = until_completed(bench_database, pair, into_new_channels(pair))
    return hello_campaign.run_seconds(campaign)


class _Counter:
    """An endpoint that counts the messages it gets, in a thread of its own.

    It stands for another machine, so it takes as little of this one as it can.
    """

    def __init__(self) -> None:
        self.url = ""
        self.messages = 0
        self._loop = asyncio.new_event_loop()

    def run(self, listening: threading.Event) -> None:
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        )
        host, port = server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}/"
        listening.set()
        self._loop.run_forever()
        server.close()
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


class _Connection(asyncio.Protocol):
    """Answers each request with 200, as soon as its body is whole."""

    def __init__(self, counter: _Counter) -> None:
        self._counter = counter
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (head := self._received.find(_END_OF_HEAD)) >= 0:
            length = _LENGTH.search(self._received, 0, head + len(_END_OF_HEAD))
            assert length, self._received[:head]
            end = head + len(_END_OF_HEAD) + int(length[1])
            if len(self._received) < end:
                return
            self._counter.messages += self._received.count(_MESSAGE, head, end)
            del self._received[:end]
            assert isinstance(self._transport, asyncio.Transport)
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def _counting() -> Iterator[_Counter]:
    counter, listening = _Counter(), threading.Event()
    thread = threading.Thread(target=counter.run, args=[listening])
    thread.start()
    listening.wait()
    try:
        yield counter
    finally:
        counter.stop()
        thread.join()
