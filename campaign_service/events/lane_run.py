"""Sends one lane of a webhook: builds the next batch, makes an attempt, stores the progress."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from uuid import uuid4

import orjson
import structlog

from campaign_service.campaigns.events import Event, Offset
from campaign_service.campaigns.webhooks import (
    MAX_BATCH_BYTES,
    Attempt,
    AttemptOutcome,
    Batch,
    Lane,
    LaneLostError,
    Webhook,
)
from campaign_service.events.http_client import Answer, WebhookClient
from campaign_service.events.reader import EventReader, Selection
from campaign_service.events.retries import (
    Verdict,
    next_attempt_at,
    read_retry_after,
    verdict_on,
)
from campaign_service.events.signatures import signed_headers
from campaign_service.storage.event_ports import LaneStore
from herald_rpc import tracing
from herald_rpc.tracing import Kind

logger = structlog.get_logger(__name__)

_EVENTS_AT_ONCE = 500
# attempts that are stored together; after a crash they are repeated under the same ids
_MOST_UNWRITTEN = 500
_UNWRITTEN_SECONDS = 0.25
# seconds, after which other lanes of the webhook are served
_MAX_RUN_SECONDS = 5.0
_GONE_REASON = "the endpoint answered 410"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Shared by all lanes of a process. `webhook` returns None for a disabled or deleted one."""

    reader: EventReader
    lanes: LaneStore
    client: WebhookClient
    webhook: Callable[[str], Awaitable[Webhook | None]]
    is_leased: Callable[[], bool]
    """Whether the leases of this process certainly hold."""
    now: Callable[[], datetime]


class LaneRun:
    """Sends the batches of a lane one after the other.

    Ends when none is left, when an attempt is to be repeated later, or after 5 s, so that other
    lanes of the webhook get their share.
    """

    def __init__(self, lane: Lane, delivery: Delivery, is_stopping: Callable[[], bool]) -> None:
        self._lane = lane
        self._delivery = delivery
        self._is_stopping = is_stopping
        self._offset = lane.offset
        self._read_to = lane.offset
        self._events: deque[Event] = deque()
        self._types: Sequence[str] | None = None
        self._unwritten: list[Attempt] = []
        self._written_at = monotonic()
        # one attempt's state, of the batch that the lane came with
        self._batch_end = lane.batch_end
        self._failed = lane.failed
        self._attempts = lane.attempts
        self._first_attempt_at = lane.first_attempt_at

    async def run(self) -> None:
        """Sends the lane. Raises `LaneLostError`."""
        ends_at = monotonic() + _MAX_RUN_SECONDS
        while monotonic() < ends_at and not self._is_stopping():
            webhook = await self._delivery.webhook(self._lane.webhook_id)
            if webhook is None:
                break
            batch = self._failed or await self._next_batch(webhook)
            if batch is None:
                await self._write(self._lane.end)
                break
            if not self._delivery.is_leased():
                raise LaneLostError
            if not await self._attempt(webhook, batch):
                return
        await self._write(self._offset)
        await self._delivery.lanes.release(self._lane)

    async def _next_batch(self, webhook: Webhook) -> Batch | None:
        types = self._types_for(webhook)
        if self._types != types:
            # the webhook has changed, and events that were read ahead may be of other types
            self._types = types
            self._events.clear()
            self._read_to = self._offset
        most = 1 if self._batch_end is None else _EVENTS_AT_ONCE
        if self._batch_end is None:
            most = webhook.max_batch_events
        await self._read_ahead(types, most)
        chosen, bodies = self._chosen(most)
        if not chosen:
            if self._batch_end is not None:
                # its events were deleted, or their types are no longer wanted
                self._batch_end = None
                return await self._next_batch(webhook)
            return None
        end = self._batch_end or chosen[-1].next_offset
        if webhook.max_batch_events > 1 and self._batch_end is None:
            await self._write(self._offset)
            await self._delivery.lanes.begin_batch(self._lane, end)
        is_list = webhook.max_batch_events > 1 or len(chosen) > 1
        return Batch(
            end=end,
            event_id=chosen[0].id,
            event_type=chosen[0].type,
            events=len(chosen),
            body=b"[" + b",".join(bodies) + b"]" if is_list else bodies[0],
        )

    async def _read_ahead(self, types: Sequence[str], most: int) -> None:
        if len(self._events) >= most or self._read_to >= self._lane.end:
            return
        lane = self._lane
        selection = Selection(types, lane.campaign_id, lane.not_before, lane.not_after)
        found, self._read_to = await self._delivery.reader.read(
            self._read_to, lane.end, selection, _EVENTS_AT_ONCE
        )
        self._events += found

    def _chosen(self, most: int) -> tuple[Sequence[Event], Sequence[bytes]]:
        """Returns the events of the next request, and each of them as JSON."""
        chosen: list[Event] = []
        bodies: list[bytes] = []
        size = 0
        for event in self._events:
            if self._batch_end is None and len(chosen) == most:
                break
            if self._batch_end is not None and event.offset >= self._batch_end:
                break
            body = orjson.dumps(event.payload)
            size += len(body) + 1
            if chosen and self._batch_end is None and size > MAX_BATCH_BYTES:
                break
            chosen.append(event)
            bodies.append(body)
        return chosen, bodies

    async def _attempt(self, webhook: Webhook, batch: Batch) -> bool:
        """Sends the batch. Returns whether the lane continues."""
        began = self._delivery.now()
        first = self._first_attempt_at or began
        number = self._attempts + 1
        headers = signed_headers(
            batch.event_id, number, batch.body, webhook.secrets_at(began), began
        )
        with tracing.span(
            "POST webhook", Kind.CLIENT, webhook_id=webhook.id, events=batch.events, attempt=number
        ) as traceparent:
            answer = await self._delivery.client.post(
                webhook.url,
                {**headers, tracing.HEADER: traceparent} if traceparent else headers,
                batch.body,
                webhook.timeout.total_seconds(),
            )
        verdict = verdict_on(answer.status, refused=answer.refused)
        due = None
        if verdict is Verdict.RETRY:
            now = self._delivery.now()
            due = next_attempt_at(number, first, now, read_retry_after(answer.retry_after, now))
        attempt = self._attempt_row(webhook, batch, number, began, answer, verdict, due)
        if due is not None:
            before, self._unwritten = self._unwritten, []
            await self._delivery.lanes.retry(self._lane, batch, attempt, first, before)
            return False
        self._unwritten.append(attempt)
        self._offset = batch.end
        while self._events and self._events[0].offset < batch.end:
            self._events.popleft()
        self._read_to = max(self._read_to, batch.end)
        self._batch_end, self._failed = None, None
        self._attempts, self._first_attempt_at = 0, None
        if verdict is Verdict.GONE:
            written, self._unwritten = self._unwritten, []
            await self._delivery.lanes.disable_webhook(
                self._lane, self._offset, written, _GONE_REASON, self._delivery.now()
            )
            await self._delivery.lanes.release(self._lane)
            return False
        is_late = monotonic() - self._written_at > _UNWRITTEN_SECONDS
        if is_late or len(self._unwritten) >= _MOST_UNWRITTEN or webhook.max_batch_events > 1:
            await self._write(self._offset)
        return True

    def _types_for(self, webhook: Webhook) -> Sequence[str]:
        return webhook.event_types if self._lane.types is None else self._lane.types

    def _attempt_row(
        self,
        webhook: Webhook,
        batch: Batch,
        number: int,
        began: datetime,
        answer: Answer,
        verdict: Verdict,
        due: datetime | None,
    ) -> Attempt:
        outcome = AttemptOutcome.DEAD
        if verdict is Verdict.DELIVERED:
            outcome = AttemptOutcome.DELIVERED
        elif due is not None:
            outcome = AttemptOutcome.RETRYING
        return Attempt(
            id=str(uuid4()),
            webhook_id=self._lane.webhook_id,
            campaign_id=self._lane.campaign_id,
            event_id=batch.event_id,
            event_type=batch.event_type,
            events=batch.events,
            attempt=number,
            attempted_at=began,
            response_status=answer.status,
            error=answer.error,
            outcome=outcome,
            next_attempt_at=due,
            start=self._offset,
            end=batch.end,
            types=self._types_for(webhook),
        )

    async def _write(self, offset: Offset) -> None:
        """Stores the progress."""
        if self._unwritten or offset != self._lane.offset:
            written, self._unwritten = self._unwritten, []
            await self._delivery.lanes.advance(self._lane, offset, written)
        self._written_at = monotonic()
