"""CampaignService as its callers see it: create, get, query, start and stop."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import delete, update

from campaign_service.storage.tables import campaigns
from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import users
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_user
from tests.campaign.refusals import Refusal, refusal_of
from tests.campaign.server_pair import ServerPair, answered, start_pair

pytestmark = pytest.mark.nightly_on("postgresql")

FAILED = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture
async def services(database: Database, database_url: str) -> AsyncIterator[ServerPair]:
    ids = [SENDER_ID, "ann", "bob"]
    await sql_chat_store(database).users.upsert([a_user(id_) for id_ in ids], datetime.now(UTC))
    async with start_pair(database_url) as services:
        yield services


# --- create


async def test_a_created_campaign_is_a_draft_with_everything_it_was_given(
    services: ServerPair,
) -> None:
    await services.add_list("vips", ["ann", "bob"])
    given = a_campaign_message(
        {
            "name": "Spring",
            "description": "Sale",
            "user_ids": None,
            "segment_ids": ["vips", "vips"],
            "sender_mode": "SENDER_MODE_INCLUDE",
            "sender_visibility": "SENDER_VISIBILITY_ARCHIVED",
            "message_template": {
                "text": "Hi",
                "attachments": [{"type": "image", "sizes": [1, 2.5, None, True]}],
                "poll_id": "poll",
                "custom": {"a": {"b": "{{ receiver.id }}"}},
                "searchable": True,
            },
            "show_channels": True,
            "channel_template": {
                "type": "messaging",
                "id": "x",
                "team": "red",
                "custom": {"c": 1},
                "members_template": [{"user_id": "ann", "channel_role": "mod", "custom": {"d": 1}}],
            },
            "skip_push": True,
            "skip_webhook": True,
        }
    )

    created = await services.create(given)

    assert created.status == campaign_pb2.CAMPAIGN_STATUS_DRAFT
    assert list(created.segment_ids) == ["vips"]
    assert (created.sender.id, created.sender.name) == (SENDER_ID, "Acme")
    assert [(segment.id, segment.size) for segment in created.segments] == [("vips", 2)]
    assert created.etag
    assert created.HasField("created_at")
    assert created.HasField("stats")
    assert created.stats == campaign_pb2.CampaignStats()
    assert created.message_template == given.message_template
    assert created.channel_template == given.channel_template
    for name in (
        "id name description sender_id sender_mode sender_visibility create_channels "
        "show_channels skip_push skip_webhook"
    ).split():
        assert getattr(created, name) == getattr(given, name), name
    assert await services.get() == created


async def test_output_only_fields_are_ignored_on_input(services: ServerPair) -> None:
    given = a_campaign_message(
        {
            "status": "CAMPAIGN_STATUS_COMPLETED",
            "status_reason": "because",
            "stats": {"messages_sent": 5},
            "etag": "x",
            "created_at": "2001-01-01T00:00:00Z",
            "deleted_at": "2001-01-01T00:00:00Z",
            "scheduled_for": "2001-01-01T00:00:00Z",
            "users": [{"id": "x"}],
            "segments": [{"id": "x"}],
        }
    )

    created = await services.create(given)

    assert created.status == campaign_pb2.CAMPAIGN_STATUS_DRAFT
    assert (created.status_reason, created.stats.messages_sent) == ("", 0)
    assert created.created_at.seconds > 1_000_000_000
    assert not created.HasField("deleted_at")
    assert not created.HasField("scheduled_for")
    assert not created.segments
    assert created.etag != "x"


async def test_a_campaign_without_an_id_gets_one(services: ServerPair) -> None:
    one = await services.create(a_campaign_message({"id": None}))
    other = await services.create(a_campaign_message({"id": None}))

    assert one.id
    assert other.id
    assert one.id != other.id


async def test_a_repeated_create_gives_what_is_there(services: ServerPair) -> None:
    campaign = a_campaign_message({"user_ids": ["bob", "ann"]})
    created = await services.create(campaign)

    assert await services.create(campaign) == created
    reordered = a_campaign_message({"user_ids": ["ann", "bob", "ann"]})
    assert await services.create(reordered) == created
    await services.start()
    done = await services.until_completed()
    again = await services.create(campaign)
    assert (again.status, again.etag) == (done.status, done.etag)


async def test_a_repeated_create_does_not_mind_what_has_gone_since(
    services: ServerPair, database: Database
) -> None:
    campaign = a_campaign_message({"user_ids": None, "segment_ids": ["vips"]})
    await services.add_list("vips", ["ann"])
    await services.create(campaign)
    await services.delete_segment("vips")
    await sql_chat_store(database).users.delete([SENDER_ID], datetime.now(UTC))

    assert (await services.create(campaign)).id == "spring"


async def test_a_deleted_campaigns_id_stays_taken(services: ServerPair, database: Database) -> None:
    await services.create(a_campaign_message())
    await mark_deleted(database)

    refusal = await refusal_of(services.create(a_campaign_message()))

    assert refusal.reason == "CAMPAIGN_ALREADY_EXISTS"
    assert (await services.get()).HasField("deleted_at")


@pytest.mark.parametrize("id_", ["spring", ""], ids=["with an id", "without an id"])
async def test_a_check_alone_writes_nothing(services: ServerPair, id_: str) -> None:
    request = pb.CreateCampaignRequest(campaign=a_campaign_message({"id": id_}), validate_only=True)

    checked = (await answered(services, request)).campaign

    assert checked.id == id_
    assert checked.status == campaign_pb2.CAMPAIGN_STATUS_DRAFT
    assert checked.sender.id == SENDER_ID
    assert not checked.HasField("created_at")
    assert not checked.HasField("updated_at")
    assert checked.etag == ""
    assert not (await services.campaigns.QueryCampaigns(pb.QueryCampaignsRequest())).campaigns


# --- start and stop


async def mark_deleted(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(update(campaigns).values(deleted_at=datetime.now(UTC)))


async def in_draft(services: ServerPair) -> None:
    """As it is."""


async def in_completed(services: ServerPair) -> None:
    await services.start()
    await services.until_completed()


STARTABLE = (
    "CAMPAIGN_STATUS_DRAFT,CAMPAIGN_STATUS_SCHEDULED,CAMPAIGN_STATUS_IN_PROGRESS,"
    "CAMPAIGN_STATUS_STOPPED"
)
STOPPABLE = "CAMPAIGN_STATUS_SCHEDULED,CAMPAIGN_STATUS_IN_PROGRESS,CAMPAIGN_STATUS_STOPPED"


@pytest.mark.parametrize(
    ("bring", "request_", "status", "allowed"),
    [
        (in_draft, pb.StopCampaignRequest(id="spring"), "DRAFT", STOPPABLE),
        (in_completed, pb.StopCampaignRequest(id="spring"), "COMPLETED", STOPPABLE),
        (in_completed, pb.StartCampaignRequest(id="spring"), "COMPLETED", STARTABLE),
    ],
    ids=["stop a draft", "stop a completed", "start a completed"],
)
async def test_a_status_that_does_not_allow_the_call_is_told_with_those_that_do(
    services: ServerPair,
    bring: Callable[[ServerPair], Awaitable[None]],
    request_: Any,
    status: str,
    allowed: str,
) -> None:
    await services.create(a_campaign_message())
    await bring(services)

    refusal = await refusal_of(answered(services, request_))

    assert refusal == Refusal(
        code=FAILED,
        reason="STATUS_NOT_ALLOWED",
        metadata={
            "campaign_id": "spring",
            "status": f"CAMPAIGN_STATUS_{status}",
            "allowed": allowed,
        },
        fields=(),
        preconditions={"spring": "STATUS_NOT_ALLOWED"},
        resource=None,
    )


@pytest.mark.parametrize(
    "request_",
    [pb.StartCampaignRequest(id="spring"), pb.StopCampaignRequest(id="spring")],
    ids=["start", "stop"],
)
async def test_a_deleted_campaign_can_only_be_read(
    services: ServerPair, database: Database, request_: Any
) -> None:
    await services.create(a_campaign_message())
    await mark_deleted(database)

    refusal = await refusal_of(answered(services, request_))

    assert (refusal.code, refusal.reason) == (FAILED, "CAMPAIGN_DELETED")
    assert refusal.metadata == {"campaign_id": "spring"}
    assert refusal.preconditions == {"spring": "CAMPAIGN_DELETED"}
    assert (await services.get()).HasField("deleted_at")


async def _sender_goes(_services: ServerPair, database: Database) -> None:
    await sql_chat_store(database).users.delete([SENDER_ID], datetime.now(UTC))


async def _sender_sleeps(_services: ServerPair, database: Database) -> None:
    await sql_chat_store(database).users.deactivate([SENDER_ID], datetime.now(UTC))


async def _member_goes(_services: ServerPair, database: Database) -> None:
    await sql_chat_store(database).users.delete(["bob"], datetime.now(UTC))


async def _segment_goes(services: ServerPair, _database: Database) -> None:
    await services.delete_segment("vips")


@pytest.mark.parametrize(
    ("happens", "reason", "metadata"),
    [
        (_sender_goes, "SENDER_NOT_FOUND", {"sender_id": SENDER_ID}),
        (_sender_sleeps, "SENDER_NOT_FOUND", {"sender_id": SENDER_ID}),
        (_member_goes, "MEMBER_NOT_FOUND", {"user_id": "bob"}),
        (_segment_goes, "SEGMENT_NOT_FOUND", {"segment_id": "vips"}),
    ],
    ids=["deleted sender", "deactivated sender", "deleted member", "deleted segment"],
)
async def test_what_a_campaign_names_must_be_there_when_it_starts(
    services: ServerPair,
    database: Database,
    happens: Callable[[ServerPair, Database], Awaitable[None]],
    reason: str,
    metadata: dict[str, str],
) -> None:
    await services.add_list("vips", ["ann"])
    template = {"type": "messaging", "id": "x", "members": ["bob"]}
    await services.create(
        a_campaign_message(
            {"user_ids": None, "segment_ids": ["vips"], "channel_template": template}
        )
    )
    await happens(services, database)

    refusal = await refusal_of(services.start())

    assert (refusal.code, refusal.reason, refusal.metadata) == (FAILED, reason, metadata)
    assert list(refusal.preconditions.values()) == [reason]
    assert (await services.get()).status == campaign_pb2.CAMPAIGN_STATUS_DRAFT


async def test_whoever_asks_again_gets_the_sender_and_the_segments_as_they_are_then(
    services: ServerPair, database: Database
) -> None:
    await services.add_list("vips", [])
    await services.add_list("regulars", ["ann", "bob"])
    await services.create(a_campaign_message({"user_ids": None, "segment_ids": ["vips"]}))
    await services.get()

    async def seen() -> tuple[str, list[tuple[str, int]]]:
        campaign = await services.get()
        return campaign.sender.name, [(segment.id, segment.size) for segment in campaign.segments]

    await services.add_targets("vips", ["ann"])
    assert await seen() == ("Acme", [("vips", 1)])

    await sql_chat_store(database).users.upsert([a_user(SENDER_ID, name="Ajax")], datetime.now(UTC))
    assert await seen() == ("Ajax", [("vips", 1)])

    other = campaign_pb2.Campaign(id="spring", segment_ids=["regulars", "vips"], sender_id="bob")
    mask = FieldMask(paths=["segment_ids", "sender_id"])
    await services.campaigns.UpdateCampaign(
        pb.UpdateCampaignRequest(campaign=other, update_mask=mask)
    )
    assert await seen() == ("Bob", [("regulars", 2), ("vips", 1)])


async def test_a_campaign_whose_sender_was_taken_out_of_the_database_can_be_read(
    services: ServerPair, database: Database
) -> None:
    await services.create(a_campaign_message({}))
    async with database.transaction() as connection:
        await connection.execute(delete(users).where(users.c.id == SENDER_ID))

    found = await services.get()

    assert (found.sender_id, found.HasField("sender")) == (SENDER_ID, False)


@pytest.mark.nightly
async def test_without_the_segment_server_a_campaign_can_be_read_and_nothing_more(
    services: ServerPair,
) -> None:
    await services.add_list("vips", ["ann"])
    campaign = a_campaign_message({"user_ids": None, "segment_ids": ["vips"]})
    await services.create(campaign)
    await services.segment.stop()

    found = await services.get()

    assert [(segment.id, segment.size) for segment in found.segments] == [("vips", 0)]
    campaign.id = "another"
    for call in (services.start(), services.create(campaign)):
        refusal = await refusal_of(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    await services.restart_segment()
    await services.until(lambda campaign: campaign.segments[0].size == 1)
