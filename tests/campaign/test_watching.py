"""WatchCampaign through the real servers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import grpc
import pytest
from google.protobuf import timestamp_pb2

from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.campaign.v1 import campaign_service_pb2_grpc as pb_grpc
from herald_rpc.server import page_tokens
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_user
from tests.campaign.refusals import refusal_of
from tests.campaign.server_pair import ServerPair, another_campaign_server, start_pair

pytestmark = pytest.mark.nightly_on("postgresql")

EVERYONE = [f"u{number:02}" for number in range(30)]


@pytest.fixture
async def services(database: Database, database_url: str) -> AsyncIterator[ServerPair]:
    """With a draft to thirty users, who are sent to one by one."""
    users = [a_user(id_) for id_ in [SENDER_ID, *EVERYONE]]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    # a grace beyond the test's own time-out: whoever waits for it fails
    async with start_pair(database_url, page_size=1, grace_seconds=300) as services:
        await services.create(a_campaign_message({"user_ids": EVERYONE}))
        yield services


def watch(services: ServerPair, id_: str = "spring", token: str = "") -> Any:
    request = pb.WatchCampaignRequest(id=id_, resume_token=token)
    return services.campaigns.WatchCampaign(request)


async def rest_of(call: Any) -> list[pb.WatchCampaignResponse]:
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return messages


async def schedule(services: ServerPair) -> None:
    tomorrow = timestamp_pb2.Timestamp()
    tomorrow.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    await services.campaigns.StartCampaign(
        pb.StartCampaignRequest(id="spring", scheduled_for=tomorrow)
    )


def statuses(messages: list[pb.WatchCampaignResponse]) -> list[str]:
    """Without repetitions, which are progress."""
    names = [campaign_pb2.CampaignStatus.Name(one.campaign.status)[16:] for one in messages]
    return [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]


async def test_a_watcher_sees_a_campaign_from_draft_to_completion(services: ServerPair) -> None:
    call = watch(services)
    first = await call.read()
    await schedule(services)
    began = monotonic()
    await services.start()
    messages = [first, *await rest_of(call)]
    seconds = monotonic() - began

    assert await call.code() is grpc.StatusCode.OK
    assert statuses(messages) == ["DRAFT", "SCHEDULED", "IN_PROGRESS", "COMPLETED"]
    sent = [message.campaign.stats.messages_sent for message in messages]
    assert sent == sorted(sent)
    assert sent[-1] == len(EVERYONE)
    # the three changes, and what they leave of the time
    assert len(messages) <= 4 + seconds
    final = messages[-1].campaign
    assert (final.sender.id, final.stats.progress) == (SENDER_ID, 1.0)
    assert not any(message.campaign.user_ids or message.campaign.users for message in messages)


@pytest.mark.nightly
async def test_progress_is_told_while_a_campaign_runs(services: ServerPair) -> None:
    slow = {"id": "slow", "user_ids": EVERYONE, "max_messages_per_second": 12}
    await services.create(a_campaign_message(slow))
    await services.start("slow")
    began = monotonic()
    messages = await rest_of(watch(services, "slow"))
    progress = [one for one in messages if statuses([one]) == ["IN_PROGRESS"]]

    assert 2 <= len(progress) <= 2 + monotonic() - began
    assert all(one.campaign.etag == "2" for one in progress)


async def test_a_watcher_resumes_on_another_server_and_misses_no_status(
    services: ServerPair,
) -> None:
    call = watch(services)
    token = (await call.read()).resume_token
    call.cancel()
    await schedule(services)
    await services.stop()
    await services.start()
    await services.until_completed()
    other = await another_campaign_server(services, grace_seconds=300)
    try:
        async with grpc.aio.insecure_channel(other.address) as channel:
            stub: Any = pb_grpc.CampaignServiceStub(channel)

            async def resumed(token: str) -> list[pb.WatchCampaignResponse]:
                request = pb.WatchCampaignRequest(id="spring", resume_token=token)
                return await rest_of(stub.WatchCampaign(request))

            missed = await resumed(token)
            assert statuses(missed) == ["SCHEDULED", "STOPPED"]
            missed = await resumed(missed[-1].resume_token)
            assert statuses(missed) == ["IN_PROGRESS", "COMPLETED"]
            assert await resumed(missed[-1].resume_token) == []
            (again,) = await resumed("")
            assert again.campaign == (missed[-1].campaign)
    finally:
        await other.stop()


async def test_a_campaign_that_is_deleted_ends_its_stream(services: ServerPair) -> None:
    call = watch(services)
    await call.read()
    await services.campaigns.DeleteCampaign(pb.DeleteCampaignRequest(id="spring"))

    (last,) = await rest_of(call)
    assert last.campaign.HasField("deleted_at")
    (again,) = await rest_of(watch(services))
    assert again.campaign == last.campaign


async def test_the_end_of_the_server_ends_its_streams_at_once(services: ServerPair) -> None:
    calls = [watch(services) for _ in range(5)]
    waiting = []
    for call in calls:
        await call.read()
        waiting.append(asyncio.create_task(call.read()))
    await services.campaign.stop()

    for one in waiting:
        refusal = await refusal_of(one)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    await services.restart_campaign()


async def test_what_cannot_be_watched_is_refused(services: ServerPair) -> None:
    token = (await watch(services).read()).resume_token
    await services.create(a_campaign_message({"id": "autumn"}))

    unknown = await refusal_of(watch(services, "winter").read())
    assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_NOT_FOUND")
    assert unknown.resource == ("herald.Campaign", "winter")
    nameless = await refusal_of(watch(services, "").read())
    assert (nameless.reason, nameless.fields) == ("INVALID_FIELD", ("id",))
    kind = "watch-campaign"
    for id_, bad in (
        ("autumn", token),
        ("spring", token[:-1]),
        ("spring", "x"),
        ("spring", page_tokens.encode(kind, ["spring"], [1])),
        ("spring", page_tokens.encode(kind, ["spring"], [0, "0:0"])),
        ("spring", page_tokens.encode(kind, ["spring"], ["1", "0:0"])),
        ("spring", page_tokens.encode(kind, ["spring"], [99, "0:0"])),
    ):
        refusal = await refusal_of(watch(services, id_, bad).read())
        assert (refusal.code, refusal.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_RESUME_TOKEN",
        ), bad
        assert refusal.fields == ("resume_token",)
