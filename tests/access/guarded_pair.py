"""Both real servers, which demand tokens, and calls with any token or none."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2

import campaign_service.server
import segment_service.server
from campaign_service.access.issuing import TokenIssuer
from campaign_service.events.worker_processes import InProcessDispatchers
from campaign_service.sending.worker_processes import InProcessSenders
from campaign_service.settings import CampaignSettings
from chat_store.access.scopes import Scope
from chat_store.access.sql_tokens import SqlTokenStore
from chat_store.access.tokens import Token, TokenSpec, digest_of, new_id, new_text
from chat_store.database.engine import Database, open_database
from herald_rpc.server.principals import LOCAL
from segment_service.settings import SegmentSettings
from tests.campaign.server_pair import Served
from tests.rpc.raw_service import status_in

PACKAGES = ("access", "campaign", "chat", "event", "segment")
_ANY_PORT = "127.0.0.1:0"
# else endless, and answered only when something happens
_REQUESTS = {"StreamEvents": b"\x0a\x01x"}


@dataclass(frozen=True, slots=True)
class Answer:
    """The code of a call, and the reason, the metadata and the text of its error."""

    code: grpc.StatusCode
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    text: str = field(default="", compare=False)

    @property
    def is_refused(self) -> bool:
        return self.code in (
            grpc.StatusCode.UNAUTHENTICATED,
            grpc.StatusCode.PERMISSION_DENIED,
        )


def every_rpc() -> Iterator[MethodDescriptor]:
    """The methods of all services, out of the contracts."""
    for package in PACKAGES:
        module = import_module(f"herald.{package}.v1.{package}_service_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def bearing(text: str | None) -> tuple[tuple[str, str], ...]:
    """The metadata of a call with this token."""
    return () if text is None else (("authorization", f"Bearer {text}"),)


async def answer_to(call: Any) -> Answer:
    """Awaits it, or the first message of a stream."""
    try:
        await (call.read() if hasattr(call, "read") else call)
    except grpc.aio.AioRpcError as error:
        info = error_details_pb2.ErrorInfo()
        status_in(error).details[0].Unpack(info)
        assert info.domain == "herald"
        return Answer(error.code(), info.reason, dict(info.metadata), error.details() or "")
    return Answer(grpc.StatusCode.OK)


@dataclass
class GuardedPair:
    database: Database
    segment: Served
    campaign: Served
    channels: dict[str, grpc.aio.Channel]

    @property
    def tokens(self) -> SqlTokenStore:
        return SqlTokenStore(self.database)

    def channel_of(self, service: str) -> grpc.aio.Channel:
        on_segment = service.startswith(("herald.segment", "herald.chat"))
        return self.channels["segment" if on_segment else "campaign"]

    async def issue(self, *scopes: Scope, **spec: Any) -> str:
        """Returns the text of a new token, as made on the command line."""
        return await issue(self.database, *scopes, **spec)

    async def expired(self, *scopes: Scope) -> str:
        token_id = new_id()
        text = new_text(token_id)
        now = datetime.now(UTC)
        await self.tokens.create(
            Token(
                id=token_id,
                name="expired",
                digest=digest_of(text),
                scopes=scopes,
                expires_at=now - timedelta(seconds=1),
                created_at=now - timedelta(days=1),
            )
        )
        return text

    async def call(
        self, method: MethodDescriptor, text: str | None, request: bytes | None = None
    ) -> Answer:
        """Calls it, without a request with next to nothing in it."""
        channel: Any = self.channel_of(method.containing_service.full_name)
        kind = "_".join(
            "stream" if streams else "unary"
            for streams in (method.client_streaming, method.server_streaming)
        )
        stub = getattr(channel, kind)(path_of(method), None, None)
        if request is None:
            request = _REQUESTS.get(method.name, b"")
        given = iter([request]) if method.client_streaming else request
        return await answer_to(stub(given, metadata=bearing(text), timeout=60))


async def issue(database: Database, *scopes: Scope, **spec: Any) -> str:
    issuer = TokenIssuer(SqlTokenStore(database), now=lambda: datetime.now(UTC))
    issued = await issuer.issue(TokenSpec(**{"name": "tests", "scopes": scopes, **spec}), LOCAL)
    return issued.text


@asynccontextmanager
async def guarded_pair(
    database_url: str, *, calls_per_second: int | None = None, **settings: Any
) -> AsyncIterator[GuardedPair]:
    """`settings` are the campaign server's; `calls_per_second` are for both."""
    async with AsyncExitStack() as stack:
        database = open_database(database_url)
        stack.push_async_callback(database.close)
        token = await issue(database, Scope.SEGMENTS_READ, name="campaign server")
        segment = await Served.start(
            segment_service.server.run_until,
            SegmentSettings(
                database_url=database_url,
                segment_listen=_ANY_PORT,
                auth="tokens",
                token_calls_per_second=calls_per_second,
                grace_seconds=5,
            ),
        )
        stack.push_async_callback(segment.stop)
        given = {"token": token, "token_calls_per_second": calls_per_second, **settings}
        campaign = await start_campaign_server(database_url, segment.address, **given)
        stack.push_async_callback(campaign.stop)
        channels = {
            name: await stack.enter_async_context(grpc.aio.insecure_channel(served.address))
            for name, served in (("segment", segment), ("campaign", campaign))
        }
        yield GuardedPair(database, segment, campaign, channels)


async def start_campaign_server(database_url: str, segment: str, **settings: Any) -> Served:
    async def run_until(stop: Any, settings: CampaignSettings, started: Any) -> None:
        sending = InProcessSenders(settings)
        await campaign_service.server.run_until(
            stop, settings, sending, InProcessDispatchers(settings), started
        )

    return await Served.start(
        run_until,
        CampaignSettings(
            **{
                "database_url": database_url,
                "campaign_listen": _ANY_PORT,
                "segment_target": segment,
                "auth": "tokens",
                "grace_seconds": 5,
                **settings,
            }
        ),
    )
