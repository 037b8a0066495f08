"""No secret is in a repr or in an answer; and a secret in a log fails the test that has put it there."""

import dataclasses
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from pydantic import BaseModel

from chat_store.access.scopes import Scope
from chat_store.access.tokens import id_in, new_id, new_text
from herald.access.v1 import access_pb2
from herald.access.v1 import access_service_pb2 as access_pb
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as campaign_pb
from herald.campaign.v1.campaign_service_pb2_grpc import CampaignServiceStub
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as chat_pb
from herald.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from herald.event.v1 import event_pb2
from herald.event.v1 import event_service_pb2 as event_pb
from herald.event.v1.event_service_pb2_grpc import EventServiceStub
from tests.access.guarded_pair import GuardedPair, bearing, every_rpc, guarded_pair, path_of
from tests.harness.canaries import DATABASE_PASSWORD, Canaries
from tests.harness.certificates import Authority
from tests.harness.postgres import Postgres

PACKAGES = ("campaign_service", "chat_store", "herald_rpc", "segment_service")
SECRET_NAMES = re.compile(r"(\w+_)?(secret|token|password|digest|key)|(database|nats|push)_url")
WEBHOOK_SECRET = "whsec_" + "Q2FuYXJ5" * 4
NEW_WEBHOOK_SECRET = "whsec_" + "UmVuZXdlZA" * 4


def fields_with_secrets() -> Iterator[tuple[str, bool]]:
    """Each field of a text that may be secret, by its name, and whether a repr has it."""
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        for found in pkgutil.walk_packages(path, f"{package}."):
            if found.name.endswith("__main__") or ".migrations" in found.name:
                continue
            module = importlib.import_module(found.name)
            for each in vars(module).values():
                if isinstance(each, type) and each.__module__ == found.name:
                    yield from _fields(each)


def _fields(each: Any) -> Iterator[tuple[str, bool]]:
    if dataclasses.is_dataclass(each):
        fields = [(field.name, field.type, field.repr) for field in dataclasses.fields(each)]
    elif issubclass(each, BaseModel):
        fields = [(name, f.annotation, f.repr) for name, f in each.model_fields.items()]
    else:
        return
    for name, kind, shown in fields:
        if SECRET_NAMES.fullmatch(name) and re.search(r"\b(str|bytes)\b", str(kind)):
            yield f"{each.__module__}.{each.__name__}.{name}", bool(shown)


# texts that are no secrets, though their names could be those of one
HARMLESS = {
    "chat_store.paging.Cursor.key",
    "chat_store.sql.filters.Binding.key",
    "herald_rpc.wire.response_pages.ResponsePage.next_token",
    "herald_rpc.wire.response_pages.ResponsePage.prev_token",
}


def test_no_repr_of_ours_has_a_field_with_a_secret() -> None:
    found = dict(fields_with_secrets())

    assert {name for name, shown in found.items() if shown} - HARMLESS == set()
    assert found.keys() >= HARMLESS
    assert "campaign_service.campaigns.webhooks.Webhook.secret" in found


@pytest.fixture
async def pair(sqlite_url: str) -> AsyncIterator[GuardedPair]:
    async with guarded_pair(sqlite_url) as running:
        yield running


TELLING = {"CreateToken", "CreateWebhook", "RotateWebhookSecret"}
"""The RPCs that make a secret, and tell it once."""


def _requests(token_id: str) -> dict[str, Any]:
    """Of methods whose answers are about a token or a webhook. DeleteWebhook comes last."""
    changed = event_pb2.Webhook(id="crm", secret=NEW_WEBHOOK_SECRET)
    return {
        "CreateToken": access_pb.CreateTokenRequest(
            token=access_pb2.Token(name="CRM", scopes=["chat:read"])
        ),
        "GetToken": access_pb.GetTokenRequest(id=token_id),
        "RevokeToken": access_pb.RevokeTokenRequest(id=token_id),
        "CreateWebhook": event_pb.CreateWebhookRequest(
            webhook=event_pb2.Webhook(id="own", url="http://127.0.0.1:9/")
        ),
        "GetWebhook": event_pb.GetWebhookRequest(id="crm"),
        "UpdateWebhook": event_pb.UpdateWebhookRequest(
            webhook=changed, update_mask=FieldMask(paths=["secret"])
        ),
        "RotateWebhookSecret": event_pb.RotateWebhookSecretRequest(id="crm"),
        "DeleteWebhook": event_pb.DeleteWebhookRequest(id="crm"),
    }


async def test_no_rpc_answers_with_a_secret_but_the_three_that_make_one(pair: GuardedPair) -> None:
    text, other = await pair.issue(*Scope), await pair.issue(Scope.CHAT_READ)
    await _create_webhook_and_event(pair, text)
    requests = _requests(id_in(other) or "")
    secrets = [WEBHOOK_SECRET, NEW_WEBHOOK_SECRET, text, other]
    parts = [secret.rpartition("_")[2].encode() for secret in secrets]

    telling = set()
    for method in sorted(every_rpc(), key=lambda each: each.name == "DeleteWebhook"):
        answered = await _answered(pair, method, requests.get(method.name), text)
        seen = Canaries()
        seen.look_at(answered, method.name)
        if seen.findings():
            telling.add(method.name)
        # not even the three tell one that they have not made
        assert [part for part in parts if part in answered] == [], method.name

    assert telling == TELLING


async def _create_webhook_and_event(pair: GuardedPair, text: str) -> None:
    chat: Any = ChatServiceStub(pair.channels["segment"])
    users = [chat_pb2.User(id="ann")]
    await chat.UpsertUsers(chat_pb.UpsertUsersRequest(users=users), metadata=bearing(text))
    events: Any = EventServiceStub(pair.channels["campaign"])
    webhook = event_pb2.Webhook(id="crm", url="http://127.0.0.1:9/", secret=WEBHOOK_SECRET)
    await events.CreateWebhook(
        event_pb.CreateWebhookRequest(webhook=webhook), metadata=bearing(text)
    )
    campaigns: Any = CampaignServiceStub(pair.channels["campaign"])
    campaign = campaign_pb2.Campaign(
        sender_id="ann",
        user_ids=["ann"],
        message_template=campaign_pb2.MessageTemplate(text="Hello"),
    )
    await campaigns.CreateCampaign(
        campaign_pb.CreateCampaignRequest(campaign=campaign), metadata=bearing(text)
    )


async def _answered(pair: GuardedPair, method: MethodDescriptor, request: Any, text: str) -> bytes:
    """The bytes of the answer, or of the error."""
    channel: Any = pair.channel_of(method.containing_service.full_name)
    kind = ("stream" if method.client_streaming else "unary") + (
        "_stream" if method.server_streaming else "_unary"
    )
    raw = request.SerializeToString() if request else b""
    call = getattr(channel, kind)(path_of(method), None, None)(
        iter([raw]) if method.client_streaming else raw, metadata=bearing(text), timeout=60
    )
    try:
        if method.name == "StreamEvents":
            # endless; there is the event of the campaign
            return bytes(await call.read())
        if method.server_streaming:
            return b"".join([page async for page in call])
        answer = bytes(await call)
    except grpc.aio.AioRpcError as error:
        return f"{error!r}{error.trailing_metadata()!r}".encode()
    return _without_hashes(answer) if method.name == "QueryAudit" else answer


def _without_hashes(answer: bytes) -> bytes:
    """The hashes of audit rows have the shape of a token's secret."""
    page = access_pb.QueryAuditResponse.FromString(answer)
    for entry in page.entries:
        entry.hash = ""
    return page.SerializeToString()


def a_token() -> str:
    return new_text(new_id())


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("a token", f"Bearer {a_token()}"),
        ("a token's secret", a_token().rpartition("_")[2]),
        ("a webhook's secret", WEBHOOK_SECRET),
        ("the database password", f"postgresql://u:{DATABASE_PASSWORD}@/db"),
        ("a private key", "-----BEGIN EC PRIVATE KEY-----"),
    ],
    ids=["a token", "its secret", "a webhook's", "a password", "a private key"],
)
def test_a_secret_is_found_by_its_shape(kind: str, text: str) -> None:
    canaries = Canaries()

    canaries.look_at(f"before {text} after".encode(), "here")

    (found,) = canaries.findings()
    assert found.startswith(f"{kind} in here: …")
    assert canaries.findings() == []


def test_each_line_of_a_keys_file_that_is_logged_is_found(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("server", valid=timedelta(hours=1))
    assert files.key
    canaries = Canaries()
    canaries.tell(files.key.read_bytes().splitlines()[1])

    canaries.look_at(b"\n".join(files.key.read_bytes().splitlines()[1:-1]), "here")

    assert canaries.findings()


@pytest.mark.parametrize("text", ["token 0f3c9a1be27d4856", "whsec_", "postgresql://u:***@/db"])
def test_no_secret_is_found_where_there_is_none(text: str) -> None:
    canaries = Canaries()

    canaries.look_at(text.encode(), "here")

    assert canaries.findings() == []


def test_a_log_is_read_to_its_end_though_it_is_deleted(tmp_path: Path) -> None:
    canaries = Canaries(is_watching=True)
    log = tmp_path / "server.log"
    canaries.watch(log)
    log.write_text(f"begun\n{a_token()}")
    half = canaries.findings()
    log.unlink()

    (found,) = canaries.findings()

    assert half == []
    assert found.startswith(f"a token in {log}")


def test_databases_of_tests_have_a_password_to_be_seen(postgres: Postgres) -> None:
    assert f":{DATABASE_PASSWORD}@" in postgres.url("any")


LEAKS = {
    "a log of a process": """
        from tests.harness import processes
        def test(tmp_path):
            process = processes.run_anew("SECRET", {}, tmp_path / "log")
            assert process.wait()
    """,
    "a log of this process": """
        import structlog
        def test():
            structlog.get_logger().info("given", token="SECRET")
    """,
    "the error of a call": """
        import grpc
        def test():
            none = grpc.aio.Metadata()
            grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, none, none, "bad SECRET")
    """,
    "nothing": """
        def test():
            pass
    """,
}


@pytest.mark.nightly
@pytest.mark.parametrize("where", LEAKS)
def test_a_test_fails_whose_secret_is_in(where: str, tmp_path: Path) -> None:
    test = tmp_path / "test_leak.py"
    lines = LEAKS[where].replace("SECRET", a_token()).splitlines()
    test.write_text("\n".join(line[8:] for line in lines))
    plugins = ["-p", "tests.harness.canary_plugin", "-p", "no:cacheprovider"]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", *plugins, str(test)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == (0 if where == "nothing" else 1), done.stdout
    assert ("secrets were told:" in done.stdout) is (where != "nothing")
