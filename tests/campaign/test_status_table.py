"""The contract's table of states, cell by cell, as callers see it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from chat_store.database.engine import open_database
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald_rpc.wire.fields import timestamp
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_user
from tests.campaign.refusals import refusal_of
from tests.campaign.server_pair import ServerPair, answered, start_pair
from tests.harness.reconciliation import recount

pytestmark = pytest.mark.nightly_on("postgresql")

DRAFT = campaign_pb2.CAMPAIGN_STATUS_DRAFT
SCHEDULED = campaign_pb2.CAMPAIGN_STATUS_SCHEDULED
IN_PROGRESS = campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
COMPLETED = campaign_pb2.CAMPAIGN_STATUS_COMPLETED
STOPPED = campaign_pb2.CAMPAIGN_STATUS_STOPPED

SOME_DAY = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
OTHER_DAY = SOME_DAY + timedelta(days=1)

# call: what it makes of each status, None where it is refused
TABLE: dict[str, dict[int, int | None]] = {
    "start": {
        DRAFT: IN_PROGRESS,
        SCHEDULED: IN_PROGRESS,
        IN_PROGRESS: IN_PROGRESS,
        STOPPED: IN_PROGRESS,
        COMPLETED: None,
    },
    "schedule": {
        DRAFT: SCHEDULED,
        SCHEDULED: SCHEDULED,
        IN_PROGRESS: None,
        STOPPED: SCHEDULED,
        COMPLETED: None,
    },
    "stop": {
        DRAFT: None,
        SCHEDULED: STOPPED,
        IN_PROGRESS: STOPPED,
        STOPPED: STOPPED,
        COMPLETED: None,
    },
    "update": {
        DRAFT: DRAFT,
        SCHEDULED: SCHEDULED,
        IN_PROGRESS: None,
        STOPPED: STOPPED,
        COMPLETED: None,
    },
    "delete": {
        DRAFT: DRAFT,
        SCHEDULED: SCHEDULED,
        IN_PROGRESS: None,
        STOPPED: STOPPED,
        COMPLETED: COMPLETED,
    },
}
CELLS = [(call, status) for call, row in TABLE.items() for status in row]


def name_of(value: object) -> str:
    return value if isinstance(value, str) else campaign_pb2.CampaignStatus.Name(value)[16:].lower()  # type: ignore[arg-type]


@pytest_asyncio.fixture(scope="module")
async def services(shared_database_url: str) -> AsyncIterator[ServerPair]:
    database = open_database(shared_database_url)
    users = [a_user(id_) for id_ in (SENDER_ID, *LISTENERS)]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    await database.close()
    async with start_pair(shared_database_url, sender_slots=8) as running_services:
        yield running_services


LISTENERS = [f"listener-{number:03}" for number in range(300)]
_numbers = count(1)


async def campaign_in(services: ServerPair, status: int) -> campaign_pb2.Campaign:
    """A fresh campaign in that status, which stays there unless somebody moves it."""
    id_ = f"campaign-{next(_numbers)}"
    # one in progress sends a message a second, so that it is not completed soon
    lasting = {"user_ids": LISTENERS, "max_messages_per_second": 1}
    campaign = await services.create(
        a_campaign_message({"id": id_, **({} if status == COMPLETED else lasting)})
    )
    if status == SCHEDULED:
        return await scheduled(services, id_)
    if status == DRAFT:
        return campaign
    campaign = await services.start(id_)
    if status == STOPPED:
        campaign = await services.stop(id_)
    if status == COMPLETED:
        campaign = await services.until_completed(id_)
    return campaign


async def scheduled(services: ServerPair, id_: str) -> campaign_pb2.Campaign:
    request = pb.StartCampaignRequest(id=id_, scheduled_for=timestamp(SOME_DAY))
    campaign: campaign_pb2.Campaign = (await answered(services, request)).campaign
    return campaign


def a_call(call: str, id_: str) -> Any:
    match call:
        case "start":
            return pb.StartCampaignRequest(id=id_)
        case "schedule":
            return pb.StartCampaignRequest(
                id=id_, scheduled_for=timestamp(OTHER_DAY), stop_at=timestamp(OTHER_DAY + DAY)
            )
        case "stop":
            return pb.StopCampaignRequest(id=id_)
        case "update":
            changed = campaign_pb2.Campaign(id=id_, name="changed")
            return pb.UpdateCampaignRequest(campaign=changed, update_mask=FieldMask(paths=["name"]))
        case _:
            return pb.DeleteCampaignRequest(id=id_)


DAY = timedelta(days=1)


@pytest.mark.parametrize(("call", "status"), CELLS, ids=name_of)
async def test_a_call_moves_a_campaign_as_the_table_says_or_is_refused(
    services: ServerPair, call: str, status: int
) -> None:
    before = await campaign_in(services, status)
    assert before.status == status
    expected = TABLE[call][status]
    request = a_call(call, before.id)

    if expected is None:
        refusal = await refusal_of(answered(services, request))
        assert (refusal.code, refusal.reason) == (FAILED_PRECONDITION, "STATUS_NOT_ALLOWED")
        assert refusal.metadata["campaign_id"] == before.id
        assert refusal.metadata["status"] == campaign_pb2.CampaignStatus.Name(status)  # type: ignore[arg-type]
        allowed = {
            campaign_pb2.CampaignStatus.Value(n) for n in refusal.metadata["allowed"].split(",")
        }
        assert allowed == {open_ for open_, to in TABLE[call].items() if to is not None}
        assert refusal.preconditions == {before.id: "STATUS_NOT_ALLOWED"}
        after = await services.get(before.id)
        assert (after.status, after.etag) == (status, before.etag)
    else:
        await answered(services, request)
        after = await services.get(before.id)
        assert after.status == expected
        moved = call in {"schedule", "update", "delete"} or expected != status
        assert (after.etag != before.etag) is moved
        assert after.HasField("deleted_at") is (call == "delete")
        assert after.name == ("changed" if call == "update" else "")
        if call == "schedule":
            assert after.scheduled_for.ToDatetime(UTC) == OTHER_DAY
            assert after.stop_at.ToDatetime(UTC) == OTHER_DAY + DAY
    if after.status == IN_PROGRESS:
        await services.stop(before.id)


@pytest.mark.parametrize("status", TABLE["start"], ids=name_of)
async def test_the_same_call_twice_is_harmless(services: ServerPair, status: int) -> None:
    for call, row in TABLE.items():
        if row[status] is None or call == "schedule":
            continue
        campaign = await campaign_in(services, status)
        await answered(services, a_call(call, campaign.id))
        once = await services.get(campaign.id)
        await answered(services, a_call(call, campaign.id))
        twice = await services.get(campaign.id)
        assert (twice.status, twice.etag) == (once.status, once.etag), call
        if twice.status == IN_PROGRESS:
            await services.stop(campaign.id)


@pytest.mark.parametrize("status", [DRAFT, SCHEDULED, STOPPED, COMPLETED], ids=name_of)
async def test_a_deleted_campaign_can_only_be_read(services: ServerPair, status: int) -> None:
    campaign = await campaign_in(services, status)
    await answered(services, pb.DeleteCampaignRequest(id=campaign.id))

    for call in ("start", "schedule", "stop", "update"):
        refusal = await refusal_of(answered(services, a_call(call, campaign.id)))
        assert (refusal.code, refusal.reason) == (FAILED_PRECONDITION, "CAMPAIGN_DELETED"), call
    assert (await services.get(campaign.id)).HasField("deleted_at")
    query = pb.QueryCampaignsRequest()
    query.filter.update({"id": campaign.id})
    assert not (await answered(services, query)).campaigns


async def test_a_time_in_the_past_starts_at_once(services: ServerPair) -> None:
    campaign = await campaign_in(services, DRAFT)
    yesterday = timestamp(datetime.now(UTC) - DAY)

    started = await answered(
        services, pb.StartCampaignRequest(id=campaign.id, scheduled_for=yesterday)
    )

    assert started.campaign.status == IN_PROGRESS
    assert started.campaign.scheduled_for == yesterday
    await services.stop(campaign.id)


async def test_a_start_without_effect_leaves_the_times(services: ServerPair) -> None:
    campaign = await campaign_in(services, DRAFT)
    stop_at = timestamp(OTHER_DAY)
    await answered(services, pb.StartCampaignRequest(id=campaign.id, stop_at=stop_at))

    again = await answered(services, pb.StartCampaignRequest(id=campaign.id))

    assert again.campaign.stop_at == stop_at
    await services.stop(campaign.id)


async def test_a_campaign_that_is_stopped_before_it_began_has_sent_nothing(
    services: ServerPair, shared_database_url: str
) -> None:
    campaign = await campaign_in(services, SCHEDULED)

    stopped = await services.stop(campaign.id)

    assert stopped.status_reason == "stopped by a caller"
    assert recount(shared_database_url, campaign.id).messages == 0


FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
