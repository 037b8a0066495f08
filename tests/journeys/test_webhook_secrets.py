"""The secret of a webhook is in the answers of CreateWebhook and RotateWebhookSecret only."""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from herald.event.v1 import event_pb2
from herald.event.v1 import event_service_pb2 as pb
from tests.harness import forkserver
from tests.harness.processes import Pair, running_pair
from tests.harness.webhook_receiver import Receiver, answering, receiving
from tests.journeys.test_events import CALL_SECONDS, add_users, in_thread, start_campaign

KEY = b"canary-of-the-key-0123456789"
SECRETS = [
    "whsec_" + base64.b64encode(KEY).decode(),
    "canary-of-create-0123456789",
    "canary-of-update-0123456789",
    "canary-of-rotate-0123456789",
    "whsec_canary/of/what/is/no/base64!",
    "canary-too-long-" * 100,
]
# one is to be repeated, one is dead, one disables the webhook
REQUESTS = 3
SETTINGS = {"HERALD_LOG_LEVEL": "DEBUG", "HERALD_WEBHOOK_DENY": "203.0.113.0/24"}


class Answers:
    """What the server has said, and the secrets that it made itself."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.made: list[str] = []
        self.received: list[bytes] = []

    def call(self, request: Any) -> Any:
        name = type(request).__name__.removesuffix("Request")
        try:
            answer = getattr(self._pair.events, name)(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            call: Any = error
            self.received += [call.details().encode(), repr(call.trailing_metadata()).encode()]
            return None
        if name in ("CreateWebhook", "RotateWebhookSecret"):
            self.made.append(answer.webhook.secret)
            answer.webhook.secret = ""
        self.received.append(answer.SerializeToString())
        return answer


@pytest.mark.nightly
async def test_the_secrets_of_webhooks_are_in_no_log_no_error_and_no_other_answer(
    sqlite_url: str, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    async with receiving(answering(500, 400, then=410)) as receiver:
        with running_pair(sqlite_url, logs, SETTINGS, forkserver.run) as pair:
            answers = Answers(pair)
            await in_thread(use_webhooks, answers, receiver.url)
            await in_thread(add_users, pair, ["acme", "ann"])
            await in_thread(start_campaign, pair, ["ann"])
            await receiver.until(lambda: len(receiver.requests) >= REQUESTS)
            while (await in_thread(answers.call, pb.GetWebhookRequest(id="crm"))).webhook.enabled:
                pass
            await in_thread(look_at_all, answers, pair)
            await in_thread(pair.campaign.kill)
            await in_thread(pair.campaign.start)

    written = [log.read_bytes() for log in logs.iterdir()]
    assert len(answers.made) == len(set(answers.made)) >= 4
    assert b"webhook.disabled" in b"".join(answers.received)
    assert len(b"".join(written)) > 1_000
    assert found_in([*answers.received, *written, *of_requests(receiver)], answers.made) == []


def use_webhooks(answers: Answers, url: str) -> None:
    """Well and badly."""

    def create(**fields: Any) -> None:
        answers.call(pb.CreateWebhookRequest(webhook=event_pb2.Webhook(**fields)))

    def update(**fields: Any) -> None:
        webhook = event_pb2.Webhook(id="crm", **fields)
        mask = FieldMask(paths=[*fields])
        answers.call(pb.UpdateWebhookRequest(webhook=webhook, update_mask=mask))

    create(id="crm", url=url, secret=SECRETS[1])
    create(id="crm", url="http://elsewhere/", secret=SECRETS[0])
    create(id="own", url="http://127.0.0.1:9/", enabled=False)
    for secret in SECRETS:
        create(id="bad", url="no url", secret=secret)
        create(id="bad", url="http://203.0.113.7/", secret=secret)
        create(id="bad", url=url, secret=secret, max_batch_events=7_000)
    update(secret=SECRETS[4])
    update(secret=SECRETS[5])
    update(secret=SECRETS[2], url="no url")
    update(secret=SECRETS[2])
    for secret in (SECRETS[4], SECRETS[5], SECRETS[3], ""):
        answers.call(pb.RotateWebhookSecretRequest(id="crm", secret=secret))
    answers.call(pb.RotateWebhookSecretRequest(id="none", secret=SECRETS[0]))
    update(secret=SECRETS[0])
    answers.call(pb.RotateWebhookSecretRequest(id="crm"))


def look_at_all(answers: Answers, pair: Pair) -> None:
    answers.call(pb.QueryWebhooksRequest())
    attempts = answers.call(pb.QueryWebhookAttemptsRequest(webhook_id="crm")).attempts
    assert {attempt.response_status for attempt in attempts} >= {410}
    for attempt in attempts:
        answers.call(pb.RedeliverAttemptRequest(id=attempt.id))
    answers.call(pb.ReplayEventsRequest(webhook_id="crm"))
    answers.call(pb.DeleteWebhookRequest(id="own"))
    stream = pair.events.StreamEvents(pb.StreamEventsRequest(), timeout=CALL_SECONDS)
    for response in stream:
        answers.received.append(response.SerializeToString())
        if any(event.type == "webhook.disabled" for event in response.events):
            stream.cancel()
            return


def of_requests(receiver: Receiver) -> Iterable[bytes]:
    for request in receiver.requests:
        yield request.body
        yield repr(request.headers).encode()


def found_in(places: Iterable[bytes], made: Iterable[str]) -> list[str]:
    """The secrets, whole or in the form that signs, that are in any of the places."""
    forms = [KEY, *(secret.encode() for secret in [*SECRETS, *made])]
    forms += [form.removeprefix(b"whsec_") for form in forms]
    whole = b"\n".join(places)
    return [form.decode() for form in forms if form in whole]
