"""A campaign and its messages always fit what gRPC's clients receive."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import orjson
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from campaign_service.campaigns.limits import MAX_ATTACHMENTS_BYTES, MAX_CAMPAIGN_BYTES
from chat_store.database.engine import open_database
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.segment.v1 import segment_pb2
from tests.campaign.builders import MOMENT, SENDER_ID, a_campaign_message, a_user
from tests.campaign.refusals import Refusal, refusal_of
from tests.campaign.server_pair import ServerPair, start_pair

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MESSAGE = "campaign.message_template"
# 2.6 MB, of which the first ones are users of 5 KB each
IDS = [f"{number:0255}" for number in range(10_000)]
PRESENT = IDS[:500]


@pytest_asyncio.fixture
async def services(sqlite_url: str) -> AsyncIterator[ServerPair]:
    database = open_database(sqlite_url)
    users = [a_user(id_, custom={"a": "x" * 5_000}) for id_ in PRESENT]
    await sql_chat_store(database).users.upsert([a_user(SENDER_ID), *users], MOMENT)
    await database.close()
    async with start_pair(sqlite_url) as running_services:
        yield running_services


async def refused(services: ServerPair, **message: Any) -> Refusal:
    template = {"message_template": {"text": "hi", **message}}
    return await refusal_of(services.create(a_campaign_message(template)))


@pytest.mark.nightly
async def test_a_campaign_that_no_answer_could_hold_is_refused_also_when_built_in_steps(
    services: ServerPair,
) -> None:
    created = await services.create(a_campaign_message({"user_ids": IDS}))
    members = [{"user_id": id_, "custom": {"a": "x" * 5_000}} for id_ in PRESENT[:250]]
    template = {"type": "messaging", "members_template": members}
    campaign = a_campaign_message({"channel_template": template})
    mask = FieldMask(paths=["channel_template"])
    update = pb.UpdateCampaignRequest(campaign=campaign, update_mask=mask)

    refusal = await refusal_of(services.campaigns.UpdateCampaign(update))

    assert (refusal.code, refusal.reason, refusal.fields) == (
        INVALID,
        "LIMIT_EXCEEDED",
        ("campaign",),
    )
    assert refusal.metadata["limit"] == str(MAX_CAMPAIGN_BYTES)
    assert int(refusal.metadata["given"]) > MAX_CAMPAIGN_BYTES
    assert (await services.get()).etag == created.etag


@pytest.mark.nightly
async def test_the_users_of_a_large_campaign_come_in_pages_that_fit(services: ServerPair) -> None:
    await services.create(a_campaign_message({"user_ids": IDS}))
    seen: list[str] = []
    token = ""
    while len(seen) < len(PRESENT):
        request = pb.GetCampaignRequest(id="spring", user_page_size=1_000, user_page_token=token)
        answer = await services.campaigns.GetCampaign(request)
        assert answer.campaign.user_ids == IDS
        seen += [user.id for user in answer.campaign.users]
        token = answer.next_user_page_token
    listed = await services.campaigns.QueryCampaigns(pb.QueryCampaignsRequest(user_limit=1_000))

    assert seen == PRESENT
    users = [user.id for user in listed.campaigns[0].users]
    assert users == PRESENT[: len(users)] != []


@pytest.mark.nightly
async def test_segments_that_are_too_large_together_come_as_far_as_they_fit(
    services: ServerPair,
) -> None:
    segment_ids = [f"segment-{number:02}" for number in range(25)]
    filter_ = {"id": {"$in": IDS[:700]}}
    for id_ in segment_ids:
        segment = segment_pb2.Segment(id=id_, type=segment_pb2.SEGMENT_TYPE_USER)
        segment.filter.update(filter_)
        await services.create_segment(segment)
    # an id made of two that are as long as allowed is no channel id
    channel = {"type": "messaging"}
    campaign = a_campaign_message(
        {"user_ids": [], "segment_ids": segment_ids, "channel_template": channel}
    )

    created = await services.create(campaign)
    await services.start()
    completed = await services.until_completed()

    whole = [segment.HasField("filter") for segment in created.segments]
    assert [segment.id for segment in created.segments] == segment_ids
    assert whole == sorted(whole, reverse=True)
    assert 0 < sum(whole) < len(whole)
    assert completed.stats.targets_total == len(PRESENT)


async def test_attachments_of_more_than_64_kb_are_refused(services: ServerPair) -> None:
    room = MAX_ATTACHMENTS_BYTES - len('[{"a":""},{}]')
    refusal = await refused(services, attachments=[{"a": "x" * (room + 1)}, {}])

    assert (refusal.code, refusal.reason) == (INVALID, "LIMIT_EXCEEDED")
    assert refusal.fields == (f"{MESSAGE}.attachments",)
    assert refusal.metadata["given"] == str(MAX_ATTACHMENTS_BYTES + 1)
    template = {"text": "hi", "attachments": [{"a": "x" * room}, {}]}
    await services.create(a_campaign_message({"message_template": template}))


@pytest.mark.parametrize(
    ("field", "deep", "at"),
    [("custom", 19, "custom"), ("attachments", 18, "attachments[0]")],
)
async def test_what_nests_deeper_than_20_is_refused(
    services: ServerPair, field: str, deep: int, at: str
) -> None:
    def nested(depth: int) -> Any:
        value = {"a": orjson.loads("[" * depth + "]" * depth)}
        return value if field == "custom" else [value]

    refusal = await refused(services, **{field: nested(deep + 1)})

    assert (refusal.code, refusal.fields) == (INVALID, (f"{MESSAGE}.{at}",))
    template = {"text": "hi", field: nested(deep)}
    await services.create(a_campaign_message({"message_template": template}))
