"""What every RPC of CampaignService refuses, CreateCampaign's fields apart."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.chat.v1 import sort_pb2
from herald_rpc.wire.structs import to_struct
from tests.campaign.builders import a_campaign_message
from tests.campaign.refusals import Refusal, refusal_of
from tests.campaign.server_pair import ServerPair, answered

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
LONG = "x" * 256
DAMAGED = "x"
SOME_DAY = Timestamp(seconds=9_999_999_999)
LONG_AGO = Timestamp(seconds=1)
NO_TIME = Timestamp(seconds=10**15)


def an_update(id_: str, *paths: str) -> pb.UpdateCampaignRequest:
    campaign = campaign_pb2.Campaign(id=id_)
    return pb.UpdateCampaignRequest(campaign=campaign, update_mask=FieldMask(paths=paths))


BAD_REQUESTS: dict[str, tuple[Any, str, str]] = {
    "get without an id": (pb.GetCampaignRequest(), "INVALID_FIELD", "id"),
    "get a long id": (pb.GetCampaignRequest(id=LONG), "LIMIT_EXCEEDED", "id"),
    "get an id with NUL": (pb.GetCampaignRequest(id="a\0"), "INVALID_FIELD", "id"),
    "get a negative page": (
        pb.GetCampaignRequest(id="known", user_page_size=-1),
        "INVALID_FIELD",
        "user_page_size",
    ),
    "get with a damaged token": (
        pb.GetCampaignRequest(id="known", user_page_token=DAMAGED),
        "INVALID_PAGE_TOKEN",
        "user_page_token",
    ),
    "start nothing": (pb.StartCampaignRequest(), "INVALID_FIELD", "id"),
    "start a long id": (pb.StartCampaignRequest(id=LONG), "LIMIT_EXCEEDED", "id"),
    "start at no time": (
        pb.StartCampaignRequest(id="known", scheduled_for=NO_TIME),
        "INVALID_FIELD",
        "scheduled_for",
    ),
    "start until the past": (
        pb.StartCampaignRequest(id="known", stop_at=LONG_AGO),
        "INVALID_FIELD",
        "stop_at",
    ),
    "stop when it starts": (
        pb.StartCampaignRequest(id="known", scheduled_for=SOME_DAY, stop_at=SOME_DAY),
        "INVALID_FIELD",
        "stop_at",
    ),
    "update nothing": (pb.UpdateCampaignRequest(), "INVALID_FIELD", "campaign.id"),
    "update what is output": (an_update("known", "status"), "INVALID_FIELD", "update_mask"),
    "update the id": (an_update("known", "id"), "INVALID_FIELD", "update_mask"),
    "update what is not there": (an_update("known", "colour"), "INVALID_FIELD", "update_mask"),
    "update inside of custom data": (
        an_update("known", "message_template.custom.a"),
        "INVALID_FIELD",
        "update_mask",
    ),
    "update into nothing": (an_update("known", "sender_id"), "INVALID_FIELD", "campaign.sender_id"),
    "delete nothing": (pb.DeleteCampaignRequest(), "INVALID_FIELD", "id"),
    "stop nothing": (pb.StopCampaignRequest(), "INVALID_FIELD", "id"),
    "stop a long id": (pb.StopCampaignRequest(id=LONG), "LIMIT_EXCEEDED", "id"),
    "query a negative page": (
        pb.QueryCampaignsRequest(page_size=-1),
        "INVALID_FIELD",
        "page_size",
    ),
    "query with negative users": (
        pb.QueryCampaignsRequest(user_limit=-1),
        "INVALID_FIELD",
        "user_limit",
    ),
    "query with a damaged token": (
        pb.QueryCampaignsRequest(page_token=DAMAGED),
        "INVALID_PAGE_TOKEN",
        "page_token",
    ),
    "sort in an unknown direction": (
        pb.QueryCampaignsRequest(sort=[sort_pb2.Sort(field="id", direction=9)]),  # type: ignore[arg-type]
        "INVALID_SORT",
        "sort[0].direction",
    ),
    "filter by no status": (
        pb.QueryCampaignsRequest(filter=to_struct({"status": "COMPLETED"})),
        "INVALID_FILTER",
        "filter.status",
    ),
    "sort by what is not there": (
        pb.QueryCampaignsRequest(sort=[sort_pb2.Sort(field="colour")]),
        "INVALID_SORT",
        "sort[0].field",
    ),
    "sort by many values": (
        pb.QueryCampaignsRequest(sort=[sort_pb2.Sort(field="segments")]),
        "INVALID_SORT",
        "sort[0].field",
    ),
    "sort twice by one": (
        pb.QueryCampaignsRequest(sort=[sort_pb2.Sort(field="id"), sort_pb2.Sort(field="id")]),
        "INVALID_SORT",
        "sort[1].field",
    ),
}
BAD_FILTERS: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "filter.colour"),
    ({"status": 1}, "filter.status"),
    ({"status": {"$in": "draft"}}, "filter.status.$in"),
    ({"name": {"$near": 1}}, "filter.name.$near"),
    ({"$and": []}, "filter.$and"),
    ({"$or": [{"id": "a"}, {"colour": 1}]}, "filter.$or[1].colour"),
    ({"created_at": {"$gt": "yesterday"}}, "filter.created_at.$gt"),
    ({"id": {"$exists": 1}}, "filter.id.$exists"),
]


@pytest.mark.parametrize(("request_", "reason", "field"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
async def test_a_bad_request_is_refused_at_its_field(
    refusing_services: ServerPair, request_: Any, reason: str, field: str
) -> None:
    await refusing_services.create(a_campaign_message({"id": "known"}))

    refusal = await refusal_of(answered(refusing_services, request_))

    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, reason, (field,))
    assert refusal.metadata["field"] == field
    assert (await refusing_services.get("known")).status == campaign_pb2.CAMPAIGN_STATUS_DRAFT


@pytest.mark.parametrize(("filter_", "field"), BAD_FILTERS, ids=str)
async def test_a_bad_filter_is_refused_at_its_path(
    refusing_services: ServerPair, filter_: dict[str, Any], field: str
) -> None:
    request = pb.QueryCampaignsRequest()
    request.filter.update(filter_)

    refusal = await refusal_of(refusing_services.campaigns.QueryCampaigns(request))

    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "INVALID_FILTER", (field,))


@pytest.mark.parametrize(
    "request_",
    [
        pb.GetCampaignRequest(id="nothing"),
        pb.StartCampaignRequest(id="nothing"),
        pb.StopCampaignRequest(id="nothing"),
        pb.UpdateCampaignRequest(campaign=a_campaign_message({"id": "nothing"})),
        pb.DeleteCampaignRequest(id="nothing"),
    ],
    ids=["get", "start", "stop", "update", "delete"],
)
async def test_a_campaign_that_is_not_there_is_not_found(
    refusing_services: ServerPair, request_: Any
) -> None:
    refusal = await refusal_of(answered(refusing_services, request_))

    assert refusal == Refusal(
        code=NOT_FOUND,
        reason="CAMPAIGN_NOT_FOUND",
        metadata={"campaign_id": "nothing"},
        fields=(),
        preconditions={},
        resource=("herald.Campaign", "nothing"),
    )


OTHER_CONTENT = [
    {"name": "other"},
    {"user_ids": ["ann"]},
    {"message_template": {"text": "Bye"}},
    {"message_template": {"text": "Hi {{ receiver.name }}", "custom": {"a": 1}}},
    {"channel_template": {"type": "messaging", "id": "x"}},
    {"sender_id": "ann"},
    {"sender_mode": "SENDER_MODE_EXCLUDE"},
    {"show_channels": True},
    {"skip_push": True},
]


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize("changes", OTHER_CONTENT, ids=str)
async def test_an_id_with_other_content_is_taken(
    refusing_services: ServerPair, changes: dict[str, Any], *, validate_only: bool
) -> None:
    created = await refusing_services.create(a_campaign_message({"id": "known"}))
    request = pb.CreateCampaignRequest(
        campaign=a_campaign_message({"id": "known", **changes}), validate_only=validate_only
    )

    refusal = await refusal_of(answered(refusing_services, request))

    assert refusal == Refusal(
        code=grpc.StatusCode.ALREADY_EXISTS,
        reason="CAMPAIGN_ALREADY_EXISTS",
        metadata={"campaign_id": "known"},
        fields=(),
        preconditions={},
        resource=("herald.Campaign", "known"),
    )
    assert await refusing_services.create(a_campaign_message({"id": "known"})) == created
