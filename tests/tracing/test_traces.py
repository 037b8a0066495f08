"""One trace from StartCampaign over the segment service and the pages to the sinks of events."""

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import nats
import pytest
import structlog.testing
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from chat_store.database.engine import open_database
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.event.v1 import event_pb2
from herald.event.v1 import event_service_pb2 as event_pb
from herald_rpc import tracing
from herald_rpc.process.otlp import traced
from tests.campaign.builders import MOMENT, SENDER_ID, a_user
from tests.campaign.server_pair import ServerPair, start_pair
from tests.harness.nats_server import NatsServer, running_nats
from tests.harness.webhook_receiver import Receiver, receiving
from tests.tracing.otlp_receiver import Collector, Seen, collecting

PEOPLE = ["ann", "bob", "cleo"]
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RECORDED = f"00-{TRACE_ID}-{PARENT_ID}-01"
NOT_RECORDED = f"00-{TRACE_ID}-{PARENT_ID}-00"
START = "herald.campaign.v1.CampaignService/StartCampaign"
STREAM = "herald.segment.v1.SegmentService/StreamTargets"


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as collector:
        yield collector


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    folder = tmp_path / "nats"
    folder.mkdir()
    with running_nats(folder) as server:
        yield server


async def people_in(url: str) -> None:
    database = open_database(url)
    users = [a_user(id_) for id_ in (SENDER_ID, *PEOPLE)]
    await sql_chat_store(database).users.upsert(users, MOMENT)
    await database.close()


async def run_campaign(services: ServerPair, traceparent: str = "") -> str:
    """Returns the trace's id that the failed second start tells."""
    await services.add_list("vips", PEOPLE)
    campaign = campaign_pb2.Campaign(id="spring", sender_id=SENDER_ID, segment_ids=["vips"])
    campaign.message_template.text = "Hi"
    campaign.create_channels = True
    campaign.channel_template.type = "messaging"
    await services.create(campaign)
    metadata = ((tracing.HEADER, traceparent),) if traceparent else ()
    request = pb.StartCampaignRequest(id="spring")
    await services.campaigns.StartCampaign(request, metadata=metadata)
    await services.until_completed()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await services.campaigns.StartCampaign(request, metadata=metadata)
    status: Any = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return str(info.metadata["trace_id"])


async def test_one_trace_leads_from_the_call_that_starts_a_campaign_to_its_sinks(
    sqlite_url: str,
    collector: Collector,
    receiver: Receiver,
    server: NatsServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    await people_in(sqlite_url)
    recording = traced("herald")
    recording.__enter__()
    try:
        async with (
            start_pair(sqlite_url, nats_url=server.url, page_size=2) as services,
            logged() as lines,
        ):
            webhook = event_pb2.Webhook(url=receiver.url, event_types=["message.new"])
            await services.events.CreateWebhook(event_pb.CreateWebhookRequest(webhook=webhook))
            told = await run_campaign(services, RECORDED)
            await receiver.until(lambda: len(receiver.first_arrivals) == len(PEOPLE))
            published = await messages_in(server)
    finally:
        # exports what is left, by HTTP to this event loop
        await asyncio.to_thread(recording.__exit__, None, None, None)

    start, refused = collector.named(START)
    assert start.parent_id == refused.parent_id == PARENT_ID
    assert told == start.trace_id == TRACE_ID
    below = collector.children_of(start)
    assert below["commit page"] >= 2
    assert below[STREAM] >= 1
    assert below["herald.segment.v1.SegmentService/CountTargets"] == 1
    assert below["POST webhook"] == len(PEOPLE)
    assert below["publish to JetStream"] >= 1
    pages = collector.named("commit page")
    assert sum(int(page.attributes["messages"]) for page in pages) == len(PEOPLE)
    assert {page.attributes["campaign_id"] for page in pages} == {"spring"}
    posts = ids_of(collector.named("POST webhook"))
    assert {request.headers["traceparent"] for request in receiver.requests} == posts
    publishes = ids_of(collector.named("publish to JetStream"))
    assert set(published) <= publishes
    assert published
    of_trace = {line["event"] for line in lines if line.get("trace_id") == TRACE_ID}
    assert {"campaign started", "shard claimed", "campaign completed"} <= of_trace


@pytest.mark.nightly
async def test_a_trace_that_its_caller_does_not_record_is_passed_on_and_not_recorded(
    sqlite_url: str, collector: Collector, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
    await people_in(sqlite_url)
    recording = traced("herald")
    recording.__enter__()
    try:
        async with start_pair(sqlite_url) as services:
            webhook = event_pb2.Webhook(url=receiver.url, event_types=["message.new"])
            await services.events.CreateWebhook(event_pb.CreateWebhookRequest(webhook=webhook))
            told = await run_campaign(services, NOT_RECORDED)
            await receiver.until(lambda: len(receiver.first_arrivals) == len(PEOPLE))
    finally:
        await asyncio.to_thread(recording.__exit__, None, None, None)

    assert told == TRACE_ID
    headers = {request.headers["traceparent"] for request in receiver.requests}
    assert {(header[3:35], header[-2:]) for header in headers} == {(TRACE_ID, "00")}
    assert [span for span in collector.spans if span.trace_id == TRACE_ID] == []


@asynccontextmanager
async def logged() -> AsyncIterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        yield lines


async def messages_in(server: NatsServer) -> list[str]:
    """The `traceparent` of each message of the campaign."""
    client = await nats.connect(server.url, allow_reconnect=False)
    try:
        context = client.jetstream()
        found: list[str] = []
        while len(found) < len(PEOPLE):
            info = await context.stream_info("HERALD")
            found = []
            for sequence in range(1, info.state.last_seq + 1):
                message = await context.get_msg("HERALD", seq=sequence)
                if (message.subject or "").endswith("message.new.spring"):
                    found.append((message.headers or {})["traceparent"])
        return found
    finally:
        await client.close()


def ids_of(spans: list[Seen]) -> set[str]:
    return {f"00-{span.trace_id}-{span.span_id}-01" for span in spans}
