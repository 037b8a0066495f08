"""Errands about webhooks: what an endpoint of the suite's own gets, or is told it will."""

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
from aiohttp import web
from google.protobuf.field_mask_pb2 import FieldMask

from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as campaigns_pb
from herald.event.v1 import event_pb2
from herald.event.v1 import event_service_pb2 as pb
from tests.faults import dataset
from tests.faults.client import Client
from tests.harness.webhook_receiver import Answering, Receiver, accept, receiving

_DELIVERY_SECONDS = 60.0
_POLL_SECONDS = 0.1
# longer than it takes until leases are renewed for the first time
_SLOW_SECONDS = 0.8


async def _deliver(client: Client, id_: str) -> None:
    await _delivered(client, id_, accept)


async def _deliver_slowly(client: Client, id_: str) -> None:
    async def slow(_: web.Request) -> web.StreamResponse | None:
        await asyncio.sleep(_SLOW_SECONDS)
        return None

    await _delivered(client, id_, slow)


async def _redeliver(client: Client, id_: str) -> None:
    answers = iter([400])

    async def refuse_the_first(_: web.Request) -> web.StreamResponse | None:
        status = next(answers, 200)
        return None if status == 200 else web.Response(status=status)

    async with receiving(refuse_the_first) as receiver:
        await _create(client, id_, receiver.url)
        await _happen(client, id_)
        query = pb.QueryWebhookAttemptsRequest(
            webhook_id=id_, outcome=event_pb2.WEBHOOK_ATTEMPT_OUTCOME_DEAD
        )
        async with asyncio.timeout(_DELIVERY_SECONDS):
            while not (dead := await _attempts(client, query)):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(_POLL_SECONDS)
            try:
                request = pb.RedeliverAttemptRequest(id=dead[0].id)
                await client.call(client.events.RedeliverAttempt, request)
            except grpc.aio.AioRpcError as error:
                # the answer to the first call was lost
                assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, error  # noqa: PT017
            await _arrived(receiver, id_)
    await _delete(client, id_)


async def _disable(client: Client, id_: str) -> None:
    async def gone(_: web.Request) -> web.StreamResponse | None:
        return web.Response(status=410)

    async with receiving(gone) as receiver:
        await _create(client, id_, receiver.url)
        await _happen(client, id_)
        async with asyncio.timeout(_DELIVERY_SECONDS):
            while (await _webhook(client, id_)).enabled:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(_POLL_SECONDS)
    await _delete(client, id_)


async def _update(client: Client, id_: str) -> None:
    await _create(client, id_, "http://127.0.0.1:9/")
    request = pb.UpdateWebhookRequest(
        webhook=event_pb2.Webhook(id=id_, max_batch_events=7),
        update_mask=FieldMask(paths=["max_batch_events"]),
    )
    await client.call(client.events.UpdateWebhook, request)
    assert (await _webhook(client, id_)).max_batch_events == 7
    await _delete(client, id_)


async def _replay(client: Client, id_: str) -> None:
    await _happen(client, id_)
    async with receiving() as receiver:
        await _create(client, id_, receiver.url)
        request = pb.ReplayEventsRequest(webhook_id=id_, request_id="once")
        assert (await client.call(client.events.ReplayEvents, request)).events > 0
        async with asyncio.timeout(_DELIVERY_SECONDS):
            await _arrived(receiver, id_)
    await _delete(client, id_)


async def _deliver_and_keep(client: Client, id_: str) -> None:
    """A lane is given back when all of it is sent, unless its webhook has been deleted by then."""
    async with receiving() as receiver:
        await _create(client, id_, receiver.url)
        await _happen(client, id_)
        async with asyncio.timeout(_DELIVERY_SECONDS):
            await _arrived(receiver, id_)


async def _delivered(client: Client, id_: str, answer: Answering) -> None:
    async with receiving(answer) as receiver:
        await _create(client, id_, receiver.url)
        await _happen(client, id_)
        async with asyncio.timeout(_DELIVERY_SECONDS):
            await _arrived(receiver, id_)
    await _delete(client, id_)


async def _create(client: Client, id_: str, url: str) -> None:
    webhook = event_pb2.Webhook(id=id_, url=url, event_types=["campaign.updated"])
    await client.call(client.events.CreateWebhook, pb.CreateWebhookRequest(webhook=webhook))


async def _happen(client: Client, id_: str) -> None:
    """Something that is told: a draft of that id."""
    campaign = campaign_pb2.Campaign(
        id=id_,
        sender_id=dataset.SENDER_ID,
        user_ids=[dataset.user_id(1)],
        message_template=campaign_pb2.MessageTemplate(text="Hi"),
    )
    request = campaigns_pb.CreateCampaignRequest(campaign=campaign)
    await client.call(client.campaigns.CreateCampaign, request)


async def _arrived(receiver: Receiver, id_: str) -> None:
    await receiver.until(
        lambda: any(event["campaign"]["id"] == id_ for event in receiver.first_arrivals)
    )


async def _attempts(client: Client, query: pb.QueryWebhookAttemptsRequest) -> Any:
    return (await client.call(client.events.QueryWebhookAttempts, query)).attempts


async def _webhook(client: Client, id_: str) -> Any:
    return (await client.call(client.events.GetWebhook, pb.GetWebhookRequest(id=id_))).webhook


async def _delete(client: Client, id_: str) -> None:
    try:
        await client.call(client.events.DeleteWebhook, pb.DeleteWebhookRequest(id=id_))
    except grpc.aio.AioRpcError as error:
        # the answer to the first call was lost
        assert error.code() is grpc.StatusCode.NOT_FOUND, error  # noqa: PT017


WEBHOOK_ERRANDS: Mapping[str, Any] = {
    "events.positions": _deliver,
    "webhook.create": _deliver,
    "webhook.distribute": _deliver,
    "webhook.claim": _deliver,
    "webhook.progress": _deliver,
    "webhook.release": _deliver_and_keep,
    "webhook.delete": _deliver,
    "webhook.renew": _deliver_slowly,
    "webhook.redeliver": _redeliver,
    "webhook.disable": _disable,
    "webhook.update": _update,
    "webhook.replay": _replay,
}
