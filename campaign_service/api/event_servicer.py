"""EventService: per call decode, do, encode."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any

from campaign_service.campaigns.errors import FutureOffsetError
from campaign_service.campaigns.webhooks import Backlog, Webhook
from campaign_service.events.reader import Selection
from campaign_service.events.tail import EventTail
from campaign_service.events.webhooks import Webhooks
from campaign_service.storage.event_ports import AttemptStore, WebhookStore
from campaign_service.wire.event import offset_from_token, stream_responses, types_from_proto
from campaign_service.wire.webhook import (
    attempt_to_proto,
    change_from_proto,
    grace_from_proto,
    outcome_from_proto,
    secret_from_proto,
    webhook_from_proto,
    webhook_to_proto,
)
from chat_store.filters.fields import Field, Kind
from chat_store.ids import MAX_ID
from chat_store.paging import NEWEST_FIRST, Page, PageRequest, Sort
from herald.event.v1 import event_pb2
from herald.event.v1 import event_service_pb2 as pb
from herald.event.v1 import event_service_pb2_grpc as pb_grpc
from herald_rpc.wire.fields import moment, required, text
from herald_rpc.wire.queries import InvalidTokenError, PageSizes, read_paging
from herald_rpc.wire.response_pages import fitting_page

_SIZES = PageSizes(default=25, largest=100)
_LATEST_ATTEMPTS = (Sort(Field("attempted_at", Kind.DATE), descending=True),)


class EventServicer(pb_grpc.EventServiceServicer):
    def __init__(
        self,
        tail: EventTail,
        webhooks: Webhooks,
        store: WebhookStore,
        attempts: AttemptStore,
        now: Callable[[], datetime],
    ) -> None:
        self._tail = tail
        self._webhooks = webhooks
        self._store = store
        self._attempts = attempts
        self._now = now

    async def CreateWebhook(
        self, request: pb.CreateWebhookRequest, context: Any
    ) -> pb.CreateWebhookResponse:
        webhook = await self._webhooks.create(webhook_from_proto(request.webhook))
        return pb.CreateWebhookResponse(webhook=await self._message(webhook, with_secret=True))

    async def GetWebhook(
        self, request: pb.GetWebhookRequest, context: Any
    ) -> pb.GetWebhookResponse:
        webhook = await self._store.get(required(request.id, "id", MAX_ID))
        return pb.GetWebhookResponse(webhook=await self._message(webhook))

    async def UpdateWebhook(
        self, request: pb.UpdateWebhookRequest, context: Any
    ) -> pb.UpdateWebhookResponse:
        id_ = required(request.webhook.id, "webhook.id", MAX_ID)
        webhook = await self._webhooks.update(id_, change_from_proto(request))
        return pb.UpdateWebhookResponse(webhook=await self._message(webhook))

    async def DeleteWebhook(
        self, request: pb.DeleteWebhookRequest, context: Any
    ) -> pb.DeleteWebhookResponse:
        await self._webhooks.delete(required(request.id, "id", MAX_ID))
        return pb.DeleteWebhookResponse()

    async def RotateWebhookSecret(
        self, request: pb.RotateWebhookSecretRequest, context: Any
    ) -> pb.RotateWebhookSecretResponse:
        webhook = await self._webhooks.rotate_secret(
            required(request.id, "id", MAX_ID),
            secret_from_proto(request.secret, "secret"),
            grace_from_proto(request),
        )
        message = await self._message(webhook, with_secret=True)
        return pb.RotateWebhookSecretResponse(webhook=message)

    async def QueryWebhooks(
        self, request: pb.QueryWebhooksRequest, context: Any
    ) -> pb.QueryWebhooksResponse:
        paging = read_paging(
            "webhooks", request.page_size, request.page_token, sizes=_SIZES, sort=NEWEST_FIRST
        )

        async def read(page: PageRequest) -> Page[tuple[Webhook, Backlog]]:
            found = await self._store.query(page)
            backlogs = await self._store.backlogs(found.items)
            pairs = tuple((webhook, backlogs[webhook.id]) for webhook in found.items)
            return Page(pairs, found.next_cursor, found.prev_cursor)

        answer = await fitting_page(paging, read, lambda pair: webhook_to_proto(*pair))
        return pb.QueryWebhooksResponse(
            webhooks=answer.records,
            next_page_token=answer.next_token,
            prev_page_token=answer.prev_token,
        )

    async def QueryWebhookAttempts(
        self, request: pb.QueryWebhookAttemptsRequest, context: Any
    ) -> pb.QueryWebhookAttemptsResponse:
        id_ = required(request.webhook_id, "webhook_id", MAX_ID)
        outcome = outcome_from_proto(request.outcome, "outcome")
        paging = read_paging(
            "webhook-attempts",
            request.page_size,
            request.page_token,
            sizes=_SIZES,
            sort=_LATEST_ATTEMPTS,
            bound_to=[id_, outcome],
        )
        # a missing webhook is an error, not an empty page
        await self._store.get(id_)
        answer = await fitting_page(
            paging, partial(self._attempts.query, id_, outcome), attempt_to_proto
        )
        return pb.QueryWebhookAttemptsResponse(
            attempts=answer.records,
            next_page_token=answer.next_token,
            prev_page_token=answer.prev_token,
        )

    async def RedeliverAttempt(
        self, request: pb.RedeliverAttemptRequest, context: Any
    ) -> pb.RedeliverAttemptResponse:
        attempt = await self._attempts.redeliver(required(request.id, "id", MAX_ID), self._now())
        return pb.RedeliverAttemptResponse(attempt=attempt_to_proto(attempt))

    async def ReplayEvents(
        self, request: pb.ReplayEventsRequest, context: Any
    ) -> pb.ReplayEventsResponse:
        events = await self._attempts.replay(
            required(request.webhook_id, "webhook_id", MAX_ID),
            types_from_proto(request.types, "types"),
            moment(request, "after", "after"),
            moment(request, "until", "until"),
            text(request.request_id, "request_id", MAX_ID),
            self._now(),
        )
        return pb.ReplayEventsResponse(events=events)

    async def StreamEvents(
        self, request: pb.StreamEventsRequest, context: Any
    ) -> AsyncIterator[pb.StreamEventsResponse]:
        start = offset_from_token(request.after, "after")
        selection = Selection(types=types_from_proto(request.types, "types"))
        try:
            async with aclosing(self._tail.follow(start, selection)) as pages:
                async for page in pages:
                    for response in stream_responses(page.events, page.offset):
                        yield response
        except FutureOffsetError as error:
            raise InvalidTokenError("after", str(error)) from error

    async def _message(self, webhook: Webhook, *, with_secret: bool = False) -> event_pb2.Webhook:
        backlog = (await self._store.backlogs([webhook]))[webhook.id]
        return webhook_to_proto(webhook, backlog, with_secret=with_secret)
