"""The worker that publishes every event to NATS JetStream, each once and in order."""

import asyncio
import re
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import nats
import orjson
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext, api, errors

from campaign_service.campaigns.errors import FutureOffsetError
from campaign_service.campaigns.events import Event, Offset
from campaign_service.events.reader import EventReader, Selection
from campaign_service.storage.event_ports import LogEnds
from chat_store.errors import StoreUnavailableError
from herald_rpc import tracing
from herald_rpc.process.outages import Outages, repeat
from herald_rpc.tracing import Kind

logger = structlog.get_logger(__name__)

SUBJECTS = "herald.events.>"
# stored with each message of a stream, so its older name stays
OFFSET_HEADER = "Herald-Place"

# publishes that wait for their acknowledgement, and the time-out of each, because it may be lost
_WINDOW = 200
_ACK_SECONDS = 5.0
_CONNECT_SECONDS = 2
_POLL_SECONDS = 0.1
_PLAIN = re.compile(r"[\w-]+", re.ASCII)
_NOTHING = Offset(0)


class JetStreamPublisher:
    """Publishes the log. Only Herald writes to the stream, whose last message holds the position.

    Each publish names the sequence number of the one before, so that the stream refuses duplicates
    and messages out of order, from any publisher and however long it slept. Several publishers may
    run: those that are refused read the position again and continue behind it.
    """

    def __init__(
        self,
        reader: EventReader,
        url: str,
        stream: str,
        trace_of: Callable[[str], Awaitable[str]] | None = None,
    ) -> None:
        self._reader = reader
        # of one cluster, with commas between: any that is up is connected to
        self._urls = url.split(",")
        self._stream = stream
        self._trace_of = trace_of or _no_trace
        self._client: Client | None = None
        # behind the last message of the stream, and that message's number
        self._offset = _NOTHING
        self._sequence: int | None = None
        self.on_published: Callable[[int], None] = lambda _: None
        """Called with the number of events that the stream has acknowledged."""
        self._outages = Outages(
            StoreUnavailableError,
            nats.errors.Error,
            OSError,
            TimeoutError,
        )

    @property
    def reached(self) -> Offset | None:
        """The offset after the last event of the stream, as far as this publisher knows."""
        return self._offset

    @property
    def is_well(self) -> bool:
        return not self._outages

    async def run(self, stop: asyncio.Event) -> None:
        async def step() -> float:
            return 0.0 if await self.run_once() else _POLL_SECONDS

        try:
            await repeat("publishing to NATS", step, stop, self._outages)
        finally:
            await self.close()

    async def run_once(self) -> int:
        """Publishes the next events and returns their number. Reads the position again after a failure."""
        try:
            context = await self._connected()
            if self._sequence is None:
                await self._find_offset(context)
            ends = await self._reader.ends()
            if ends.held:
                return 0
            self._offset = _kept(self._offset, ends)
            events, reached = await self._reader.read(self._offset, ends.next, Selection(), _WINDOW)
            with ExitStack() as spans:
                await self._publish(context, events, await self._spanned(events, spans))
        except BaseException:
            self._sequence = None
            await self.close()
            raise
        self._offset = reached
        self.on_published(len(events))
        return len(events)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self) -> JetStreamContext:
        if self._client is None:
            self._client = await nats.connect(
                self._urls,
                connect_timeout=_CONNECT_SECONDS,
                allow_reconnect=False,
                error_cb=_note,
            )
        return self._client.jetstream(timeout=_ACK_SECONDS)

    async def _find_offset(self, context: JetStreamContext) -> None:
        try:
            info = await context.stream_info(self._stream)
        except errors.NotFoundError:
            info = await context.add_stream(name=self._stream, subjects=[SUBJECTS])
        self._sequence = info.state.last_seq
        if info.state.messages:
            last = await context.get_msg(self._stream, seq=info.state.last_seq)
            position, _, number = (last.headers or {})[OFFSET_HEADER].partition(".")
            self._offset = Offset(int(position), int(number))

    async def _spanned(self, events: Sequence[Event], spans: ExitStack) -> Mapping[str, str]:
        """Begins a span for each campaign; returns what its messages carry as `traceparent`."""
        if not tracing.is_on():
            return {}
        counts = Counter(event.campaign_id for event in events if event.campaign_id)
        found = {}
        for campaign_id, count in counts.items():
            if parent := await self._trace_of(campaign_id):
                span = tracing.span(
                    "publish to JetStream",
                    Kind.PRODUCER,
                    parent,
                    campaign_id=campaign_id,
                    events=count,
                )
                found[campaign_id] = spans.enter_context(span)
        return found

    async def _publish(
        self, context: JetStreamContext, events: Sequence[Event], traceparents: Mapping[str, str]
    ) -> None:
        """Publishes all events. If it raises, the stream has the first ones."""
        acknowledged: list[asyncio.Future[Any]] = []
        sequence = self._sequence or 0
        for event in events:
            headers = {
                api.Header.MSG_ID.value: event.id,
                api.Header.EXPECTED_LAST_SEQUENCE.value: str(sequence),
                api.Header.EXPECTED_STREAM.value: self._stream,
                OFFSET_HEADER: f"{event.next_offset.position}.{event.next_offset.number}",
            }
            if traceparent := traceparents.get(event.campaign_id):
                headers[tracing.HEADER] = traceparent
            acknowledged.append(
                await context.publish_async(
                    subject_of(event), orjson.dumps(event.payload), headers=headers
                )
            )
            sequence += 1
        try:
            async with asyncio.timeout(_ACK_SECONDS):
                await asyncio.gather(*acknowledged)
        finally:
            for future in acknowledged:
                future.cancel()
        self._sequence = sequence


def subject_of(event: Event) -> str:
    """Returns a subject such as `herald.events.message.new.spring`.

    An id with other characters than letters, digits, _ and - is in base64 after a `=`.
    """
    campaign = event.campaign_id or "_"
    if not _PLAIN.fullmatch(campaign):
        campaign = "=" + urlsafe_b64encode(campaign.encode()).decode().rstrip("=")
    return f"herald.events.{event.type}.{campaign}"


def _kept(offset: Offset, ends: LogEnds) -> Offset:
    if offset > ends.next:
        raise FutureOffsetError
    if _NOTHING < offset < ends.first:
        logger.warning("events that were not published are older than the retention", offset=offset)
    return max(offset, ends.first)


async def _no_trace(_: str) -> str:
    return ""


async def _note(error: Exception) -> None:
    logger.debug("NATS", error=str(error))
