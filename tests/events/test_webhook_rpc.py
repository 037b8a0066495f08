"""Webhooks as callers of EventService have them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import grpc
import pytest
from google.protobuf import duration_pb2, field_mask_pb2, timestamp_pb2
from standardwebhooks import Webhook as Verifier

from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store
from herald.event.v1 import event_pb2
from herald.event.v1 import event_service_pb2 as pb
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_user
from tests.campaign.refusals import refusal_of
from tests.campaign.server_pair import ServerPair, start_pair
from tests.events.dispatching import SECRET
from tests.harness.webhook_receiver import Receiver, answering, receiving

pytestmark = pytest.mark.nightly_on("postgresql")

URL = "http://127.0.0.1:9/hook"


@pytest.fixture
async def services(database: Database, database_url: str) -> AsyncIterator[ServerPair]:
    users = [a_user(id_) for id_ in [SENDER_ID, "ann", "bob"]]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    async with start_pair(database_url, webhook_deny="203.0.113.0/24") as services:
        yield services


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def call(services: ServerPair, request: Any) -> Any:
    method = type(request).__name__.removesuffix("Request")
    return await getattr(services.events, method)(request)


async def create(services: ServerPair, **fields: Any) -> event_pb2.Webhook:
    webhook = event_pb2.Webhook(**{"id": "crm", "url": URL, **fields})
    created = await call(services, pb.CreateWebhookRequest(webhook=webhook))
    message: event_pb2.Webhook = created.webhook
    return message


async def get(services: ServerPair) -> event_pb2.Webhook:
    message: event_pb2.Webhook = (await call(services, pb.GetWebhookRequest(id="crm"))).webhook
    return message


async def update(services: ServerPair, *paths: str, **fields: Any) -> event_pb2.Webhook:
    request = pb.UpdateWebhookRequest(
        webhook=event_pb2.Webhook(id="crm", **fields),
        update_mask=field_mask_pb2.FieldMask(paths=paths),
    )
    message: event_pb2.Webhook = (await call(services, request)).webhook
    return message


async def test_a_webhook_has_defaults_and_a_secret_that_is_told_once(services: ServerPair) -> None:
    created = await create(services)
    got = await get(services)
    queried = (await call(services, pb.QueryWebhooksRequest())).webhooks

    assert created.secret.startswith("whsec_")
    assert got.secret == ""
    assert list(queried) == [got]
    assert (got.url, got.enabled, got.timeout.seconds, got.max_batch_events) == (URL, True, 6, 1)
    created.secret = ""
    assert created == got


async def test_creating_can_be_repeated(services: ServerPair) -> None:
    first = await create(services, secret=SECRET)

    assert await create(services, secret=SECRET) == first
    assert await create(services) == first, "no secret is the same content"
    for other in ({"url": f"{URL}2"}, {"secret": "other"}, {"max_batch_events": 2}):
        refusal = await refusal_of(create(services, **other))
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "WEBHOOK_ALREADY_EXISTS",
        )
        assert refusal.metadata == {"webhook_id": "crm"}


async def test_an_update_changes_what_it_names(services: ServerPair) -> None:
    await create(services, secret=SECRET, event_types=["message.new"])

    changed = await update(services, "timeout", timeout=duration_pb2.Duration(seconds=2))
    assert (changed.url, changed.timeout.seconds) == (URL, 2)
    assert list(changed.event_types) == ["message.new"]
    replaced = await update(services, url=f"{URL}2")
    assert (replaced.url, list(replaced.event_types), replaced.timeout.seconds) == (
        f"{URL}2",
        [],
        6,
    )
    assert replaced.secret == ""
    # and the secret is kept
    assert (await create(services, secret=SECRET, url=f"{URL}2")).secret == SECRET


async def test_a_deleted_webhook_is_gone_and_its_id_free(services: ServerPair) -> None:
    first = await create(services)
    await call(services, pb.DeleteWebhookRequest(id="crm"))

    for request in (
        pb.GetWebhookRequest(id="crm"),
        pb.DeleteWebhookRequest(id="crm"),
        pb.UpdateWebhookRequest(webhook=event_pb2.Webhook(id="crm", url=URL)),
        pb.RotateWebhookSecretRequest(id="crm"),
        pb.QueryWebhookAttemptsRequest(webhook_id="crm"),
        pb.ReplayEventsRequest(webhook_id="crm"),
    ):
        refusal = await refusal_of(call(services, request))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "WEBHOOK_NOT_FOUND")
        assert refusal.resource == ("herald.Webhook", "crm")
    assert (await create(services)).secret != first.secret


NO_SECRET = "whsec_?"  # noqa: S105 - it is none
SECONDS = duration_pb2.Duration


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"url": ""}, "INVALID_FIELD", "webhook.url"),
        ({"url": "hook"}, "INVALID_FIELD", "webhook.url"),
        ({"url": "ftp://a/b"}, "INVALID_FIELD", "webhook.url"),
        ({"url": "http:///path"}, "INVALID_FIELD", "webhook.url"),
        ({"url": "http://a:99999/"}, "INVALID_FIELD", "webhook.url"),
        ({"url": "http://user:pw@a/"}, "INVALID_FIELD", "webhook.url"),
        ({"url": "http://public.example@127.0.0.1/"}, "INVALID_FIELD", "webhook.url"),
        ({"url": "http://a b/"}, "INVALID_FIELD", "webhook.url"),
        ({"url": "http://a/\r\nX: y"}, "INVALID_FIELD", "webhook.url"),
        ({"url": f"http://a/{'x' * 2048}"}, "LIMIT_EXCEEDED", "webhook.url"),
        ({"url": "http://169.254.169.254/"}, "ADDRESS_REFUSED", "webhook.url"),
        ({"url": "http://203.0.113.7/"}, "ADDRESS_REFUSED", "webhook.url"),
        ({"id": "x" * 256}, "LIMIT_EXCEEDED", "webhook.id"),
        ({"event_types": ["message.new", "nope"]}, "INVALID_FIELD", "webhook.event_types[1]"),
        ({"secret": "x" * 256}, "LIMIT_EXCEEDED", "webhook.secret"),
        ({"secret": "whsec_"}, "INVALID_FIELD", "webhook.secret"),
        ({"secret": "whsec_not base64"}, "INVALID_FIELD", "webhook.secret"),
        ({"timeout": SECONDS(nanos=999_000_000)}, "INVALID_FIELD", "webhook.timeout"),
        ({"timeout": SECONDS(seconds=31)}, "INVALID_FIELD", "webhook.timeout"),
        ({"timeout": SECONDS(seconds=10**12)}, "INVALID_FIELD", "webhook.timeout"),
        ({"timeout": SECONDS(seconds=10**15)}, "INVALID_FIELD", "webhook.timeout"),
        ({"max_batch_events": 501}, "INVALID_FIELD", "webhook.max_batch_events"),
        ({"max_batch_events": -1}, "INVALID_FIELD", "webhook.max_batch_events"),
    ],
    ids=str,
)
async def test_bad_webhooks_are_refused_at_their_field(
    services: ServerPair, fields: dict[str, Any], reason: str, field: str
) -> None:
    refusal = await refusal_of(create(services, **fields))

    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.reason, refusal.fields) == (reason, (field,))
    assert refusal.metadata["field"] == field
    assert not (await call(services, pb.QueryWebhooksRequest())).webhooks


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (pb.GetWebhookRequest(), "INVALID_FIELD", "id"),
        (
            pb.UpdateWebhookRequest(
                webhook=event_pb2.Webhook(id="crm"),
                update_mask=field_mask_pb2.FieldMask(paths=["id"]),
            ),
            "INVALID_FIELD",
            "update_mask",
        ),
        (
            pb.UpdateWebhookRequest(
                webhook=event_pb2.Webhook(id="crm"),
                update_mask=field_mask_pb2.FieldMask(paths=["secret"]),
            ),
            "INVALID_FIELD",
            "webhook.secret",
        ),
        (
            pb.RotateWebhookSecretRequest(id="crm", grace=SECONDS(seconds=-1)),
            "INVALID_FIELD",
            "grace",
        ),
        (pb.RotateWebhookSecretRequest(id="crm", secret=NO_SECRET), "INVALID_FIELD", "secret"),
        (pb.QueryWebhooksRequest(page_size=-1), "INVALID_FIELD", "page_size"),
        (pb.QueryWebhooksRequest(page_token=NO_SECRET), "INVALID_PAGE_TOKEN", "page_token"),
        (
            pb.QueryWebhookAttemptsRequest(webhook_id="crm", outcome=cast("Any", 99)),
            "INVALID_FIELD",
            "outcome",
        ),
        (pb.ReplayEventsRequest(webhook_id="crm", types=["x"]), "INVALID_FIELD", "types[0]"),
        (
            pb.ReplayEventsRequest(webhook_id="crm", after=timestamp_pb2.Timestamp(seconds=10**15)),
            "INVALID_FIELD",
            "after",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value).replace("\n", " "),
)
async def test_bad_calls_are_refused_at_their_field(
    refusing_services: ServerPair, request_: Any, reason: str, field: str
) -> None:
    refusal = await refusal_of(call(refusing_services, request_))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert refusal.fields == (field,)


async def test_a_receiver_with_either_secret_accepts_what_is_sent_while_one_is_replaced(
    services: ServerPair, receiver: Receiver
) -> None:
    first = (await create(services, url=receiver.url)).secret
    rotated = await call(services, pb.RotateWebhookSecretRequest(id="crm"))
    second = rotated.webhook.secret
    await services.create(a_campaign_message())
    await receiver.until(lambda: len(receiver.requests) == 1)
    await call(services, pb.RotateWebhookSecretRequest(id="crm", grace=SECONDS()))
    await services.start()
    await receiver.until(lambda: len(receiver.requests) > 1)

    def accepts(secret: str, number: int) -> bool:
        request = receiver.requests[number]
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            Verifier(secret).verify(request.body, headers)
        except Exception:  # noqa: BLE001 - the library's own, and whatever it meets
            return False
        return True

    assert len({first, second}) == 2
    assert [accepts(first, 0), accepts(second, 0)] == [True, True]
    assert [accepts(first, 1), accepts(second, 1)] == [False, False]


async def test_what_waits_is_counted(services: ServerPair) -> None:
    await create(services, enabled=False, event_types=["campaign.started", "message.new"])
    await services.create(a_campaign_message({"id": "unheard"}))
    assert (await get(services)).pending_events == 0, "nothing is kept for it"
    await update(services, "enabled", enabled=True)
    await services.create(a_campaign_message())
    await services.start()
    await services.until_completed()

    waiting = await get(services)
    assert waiting.pending_events == 3
    assert waiting.oldest_pending_at.ToDatetime(UTC) > datetime(2026, 1, 1, tzinfo=UTC)
    attempts = (await call(services, pb.QueryWebhookAttemptsRequest(webhook_id="crm"))).attempts
    assert all(attempt.error.startswith("can't connect") for attempt in attempts)

    await update(services, "enabled", enabled=False)
    assert (await get(services)).pending_events == 3, "it goes on waiting"


async def test_events_are_replayed_under_their_ids_and_a_repeated_call_repeats_nothing(
    services: ServerPair, receiver: Receiver
) -> None:
    await services.create(a_campaign_message())
    await services.start()
    await services.until_completed()
    await create(services, url=receiver.url)

    replay = pb.ReplayEventsRequest(webhook_id="crm", types=["message.new"], request_id="r1")
    answers = [(await call(services, replay)).events for _ in range(2)]
    await receiver.until(lambda: len(receiver.requests) >= 2)
    everything = (await call(services, pb.ReplayEventsRequest(webhook_id="crm"))).events
    await receiver.until(lambda: len(receiver.requests) >= 2 + everything)

    assert answers == [2, 2]
    assert everything == 7
    assert [request.events[0]["type"] for request in receiver.requests[:2]] == ["message.new"] * 2
    streamed = await services.events.StreamEvents(pb.StreamEventsRequest()).read()
    assert [request.id for request in receiver.requests[2:]] == [e.id for e in streamed.events]
    future = timestamp_pb2.Timestamp(seconds=4_000_000_000)
    none = await call(services, pb.ReplayEventsRequest(webhook_id="crm", after=future))
    assert none.events == 0


async def test_an_attempt_that_is_not_dead_is_not_redelivered(
    services: ServerPair, receiver: Receiver
) -> None:
    await create(services, url=receiver.url)
    await services.create(a_campaign_message())
    await receiver.until(lambda: len(receiver.requests) == 1)
    attempts: list[Any] = []
    while not attempts:
        found = await call(services, pb.QueryWebhookAttemptsRequest(webhook_id="crm"))
        attempts = list(found.attempts)

    refusal = await refusal_of(call(services, pb.RedeliverAttemptRequest(id=attempts[0].id)))

    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "ATTEMPT_NOT_DEAD",
    )
    assert refusal.metadata["outcome"] == "WEBHOOK_ATTEMPT_OUTCOME_DELIVERED"
    unknown = await refusal_of(call(services, pb.RedeliverAttemptRequest(id="nope")))
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "ATTEMPT_NOT_FOUND")


async def test_attempts_are_paged_the_latest_first(
    services: ServerPair, receiver: Receiver
) -> None:
    await create(services, url=receiver.url)
    await services.create(a_campaign_message())
    await services.start()
    await services.until_completed()
    await receiver.until(lambda: len(receiver.requests) == 7)
    ids: list[str] = []
    while len(ids) < 7:
        ids, token = [], ""
        while True:
            page = await call(
                services,
                pb.QueryWebhookAttemptsRequest(webhook_id="crm", page_size=3, page_token=token),
            )
            ids += [attempt.event_id for attempt in page.attempts]
            token = page.next_page_token
            if not token:
                break

    assert sorted(ids) == sorted(request.id for request in receiver.requests)


async def test_attempts_are_found_by_their_outcome(
    services: ServerPair, receiver: Receiver
) -> None:
    receiver.answer = answering(400, 404)
    await create(services, url=receiver.url)
    await services.create(a_campaign_message())
    await services.start()
    await services.until_completed()

    async def statuses_of(outcome: "event_pb2.WebhookAttemptOutcome.ValueType") -> list[int]:
        request = pb.QueryWebhookAttemptsRequest(webhook_id="crm", outcome=outcome)
        found = (await call(services, request)).attempts
        assert all(attempt.outcome == outcome for attempt in found)
        return sorted(attempt.response_status for attempt in found)

    delivered = event_pb2.WEBHOOK_ATTEMPT_OUTCOME_DELIVERED
    while len(await statuses_of(delivered)) < 5:
        await receiver.until(lambda: len(receiver.requests) == 7)
    assert await statuses_of(delivered) == [200] * 5
    assert await statuses_of(event_pb2.WEBHOOK_ATTEMPT_OUTCOME_DEAD) == [400, 404]
    assert await statuses_of(event_pb2.WEBHOOK_ATTEMPT_OUTCOME_RETRYING) == []
