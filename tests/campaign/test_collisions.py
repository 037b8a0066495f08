"""Calls at the same moment: every outcome is one that some order of them would have had."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import combinations_with_replacement, count, pairwise
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from campaign_service.campaigns.model import TRANSITIONS, Campaign, Status
from campaign_service.storage.history import revisions_after
from chat_store.database.engine import Database, open_database
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_user
from tests.campaign.server_pair import ServerPair, answered, start_pair
from tests.harness.reconciliation import assert_consistent, recount

pytestmark = pytest.mark.nightly_on("postgresql")

CLIENTS = 16
LISTENERS = [f"listener-{number:03}" for number in range(100)]
BEFORE = ["draft", "in_progress", "stopped"]
REFUSALS = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED}
_numbers = count(1)


@pytest_asyncio.fixture(scope="module")
async def services(shared_database_url: str) -> AsyncIterator[ServerPair]:
    database = open_database(shared_database_url)
    users = [a_user(id_) for id_ in (SENDER_ID, *LISTENERS)]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    await database.close()
    async with start_pair(shared_database_url) as running_services:
        yield running_services


@pytest_asyncio.fixture(scope="module")
async def database(shared_database_url: str) -> AsyncIterator[Database]:
    opened = open_database(shared_database_url)
    yield opened
    await opened.close()


def a_call(call: str, id_: str, client: int) -> Any:
    match call:
        case "start":
            return pb.StartCampaignRequest(id=id_)
        case "stop":
            return pb.StopCampaignRequest(id=id_)
        case "update":
            changed = campaign_pb2.Campaign(id=id_, name=f"by client {client}")
            return pb.UpdateCampaignRequest(campaign=changed, update_mask=FieldMask(paths=["name"]))
        case _:
            return pb.DeleteCampaignRequest(id=id_)


async def campaign_in(services: ServerPair, status: str) -> str:
    id_ = f"campaign-{next(_numbers)}"
    slowly = {"id": id_, "user_ids": LISTENERS, "max_messages_per_second": 5}
    await services.create(a_campaign_message(slowly))
    if status != "draft":
        await services.start(id_)
    if status == "stopped":
        await services.stop(id_)
    return id_


@pytest.mark.nightly_on("draft", "stopped")
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(
    ("one", "other"), [*combinations_with_replacement(["start", "stop", "update", "delete"], 2)]
)
async def test_calls_at_the_same_moment_make_no_state_outside_of_the_table(
    services: ServerPair,
    database: Database,
    shared_database_url: str,
    one: str,
    other: str,
    before: str,
) -> None:
    id_ = await campaign_in(services, before)
    calls = [(one, other)[client % 2] for client in range(CLIENTS)]

    answers = await asyncio.gather(
        *(answered(services, a_call(call, id_, client)) for client, call in enumerate(calls)),
        return_exceptions=True,
    )

    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert all(isinstance(error, grpc.aio.AioRpcError) for error in refused), refused
    assert {error.code() for error in refused} <= REFUSALS  # type: ignore[attr-defined]
    async with database.snapshot() as connection:
        changes = await revisions_after(connection, id_, 0)
    assert [change.revision for change in changes] == list(range(1, len(changes) + 1))
    assert all(may_follow(earlier, later) for earlier, later in pairwise(changes)), changes
    # what was answered has happened, and what was refused has not
    updated = {
        f"by client {client}"
        for client, answer in enumerate(answers)
        if calls[client] == "update" and not isinstance(answer, BaseException)
    }
    assert {change.spec.name for change in changes} - {""} == updated
    now = await services.get(id_)
    assert now.etag == str(changes[-1].revision)
    if now.status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS:
        await services.stop(id_)
    assert_consistent(recount(shared_database_url, id_))


def may_follow(earlier: Campaign, later: Campaign) -> bool:
    """Whether one move of the table leads from one to the other; nothing follows a deletion."""
    moves = {moved[earlier.status] for moved in TRANSITIONS.values() if earlier.status in moved}
    edited = earlier.spec != later.spec or later.deleted_at is not None
    stayed = earlier.status is later.status
    legal = later.status in moves and (edited or not stayed)
    unedited = earlier.status is not Status.IN_PROGRESS or not edited
    return earlier.deleted_at is None and legal and unedited
