"""A valid request to each call, and what there must be before it is made."""

from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct

from herald.campaign.v1 import campaign_service_pb2 as campaigns
from herald.chat.v1 import chat_service_pb2 as chat
from herald.segment.v1 import segment_service_pb2 as segments
from tests.values.everything import Everything, methods

NOON = "2026-03-01T12:00:00Z"
FILTER = {"name": "Ann"}
TEXT = "{{ receiver.created_at }} {{ receiver.custom }} {{ sender.updated_at }}"

# What each call is asked where nothing else is said; `$` stands for the id of the case.
_VALID: dict[str, dict[str, Any]] = {
    "CreateSegment": {
        "segment": {
            "id": "$",
            "type": "SEGMENT_TYPE_USER",
            "name": "a",
            "description": "b",
            "filter": FILTER,
        }
    },
    "GetSegment": {"id": "list"},
    "UpdateSegment": {"segment": {"id": "$", "name": "c", "description": "d", "filter": FILTER}},
    "DeleteSegment": {"id": "$"},
    "QuerySegments": {"filter": {"type": "user"}, "sort": [{"field": "name"}], "page_size": 1},
    "AddTargets": {"segment_id": "list", "target_ids": ["$"]},
    "RemoveTargets": {"segment_id": "list", "target_ids": ["$"]},
    "TargetExists": {"segment_id": "list", "target_id": "ann"},
    "QueryTargets": {"segment_id": "list", "sort": [{"field": "target_id"}]},
    "CountTargets": {"segment_ids": ["list", "everyone"]},
    "FilterTargets": {"segment_ids": ["list"], "target_ids": ["ann"]},
    "StreamTargets": {"segment_ids": ["everyone"], "shard": {"count": 2}},
    "ExplainTarget": {"segment_id": "matching", "target_id": "ann"},
    "UpsertUsers": {
        "users": [
            {
                "id": "$",
                "name": "Ann",
                "teams": ["red"],
                "custom": {"a": 1},
                "push_preferences": {"b": 2},
                "created_at": NOON,
            }
        ]
    },
    "GetUser": {"id": "ann"},
    "QueryUsers": {"filter": FILTER, "sort": [{"field": "created_at"}], "page_size": 1},
    "DeactivateUsers": {"ids": ["$"]},
    "ReactivateUsers": {"ids": ["$"]},
    "DeleteUsers": {"ids": ["$"]},
    "RestoreUsers": {"ids": ["$"]},
    "UpsertChannels": {
        "channels": [
            {
                "type": "messaging",
                "id": "$",
                "name": "General",
                "filter_tags": ["a"],
                "custom": {"a": 1},
                "created_at": NOON,
            }
        ]
    },
    "GetChatChannel": {"cid": "messaging:general"},
    "QueryChannels": {"filter": {"name": "General"}, "sort": [{"field": "created_at"}]},
    "DeleteChannels": {"cids": ["messaging:$"]},
    "AddMembers": {
        "cid": "messaging:$",
        "members": [{"user_id": "ann", "channel_role": "boss", "custom": {"a": 1}}],
    },
    "RemoveMembers": {"cid": "messaging:$", "user_ids": ["ann"]},
    "QueryMembers": {"cid": "messaging:general"},
    "SetMembership": {"cid": "messaging:general", "user_id": "ann", "hidden": True},
    "QueryMessages": {"cid": "messaging:general"},
    "MarkRead": {"cid": "messaging:$", "user_id": "ann", "read_at": NOON},
    "UpsertDevices": {
        "devices": [
            {
                "id": "$",
                "user_id": "ann",
                "push_provider": "PUSH_PROVIDER_APN",
                "hardware_id": "phone",
                "created_at": NOON,
            }
        ]
    },
    "DeleteDevices": {"ids": ["$"]},
    "CreateCampaign": {
        "campaign": {
            "id": "$",
            "name": "a",
            "sender_id": "acme",
            "user_ids": ["ann"],
            "message_template": {"text": TEXT, "attachments": [{"a": 1}], "custom": {"b": 2}},
            "create_channels": True,
            "channel_template": {
                "type": "messaging",
                "id": "{{ receiver.id }}",
                "custom": {"a": 1},
                "members_template": [{"user_id": "bob", "custom": {"a": 1}}],
            },
        }
    },
    "GetCampaign": {"id": "draft"},
    "DeleteCampaign": {"id": "$"},
    "QueryCampaigns": {"filter": {"name": "a"}, "sort": [{"field": "name"}], "user_limit": 1},
    "StartCampaign": {"id": "$"},
    "StopCampaign": {"id": "$"},
    "WatchCampaign": {"id": "draft"},
    "QueryDeliveries": {"campaign_id": "draft"},
}
_VALID["UpdateCampaign"] = _VALID["CreateCampaign"]
_VALID["PreviewCampaign"] = {"id": "draft", "receiver_ids": ["ann"]}


def valid(method: str, id_: str) -> Message:
    (input_type,) = (found.input_type for found in methods() if found.name == method)
    return ParseDict(_with_id(_VALID[method], id_), GetMessageClass(input_type)())


def named(request: Message, id_: str) -> Message:
    """The request of a case, whose id it gets where it has `$`."""
    if isinstance(request, Struct):
        return request
    for field, held in request.ListFields():
        if field.message_type and field.is_repeated:
            for item in held:
                named(item, id_)
        elif field.message_type:
            named(held, id_)
        elif field.is_repeated:
            held[:] = [_with_id(item, id_) for item in held]
        elif isinstance(held, str):
            setattr(request, field.name, _with_id(held, id_))
    return request


def _with_id(value: Any, id_: str) -> Any:
    if isinstance(value, dict):
        return {key: _with_id(item, id_) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_id(item, id_) for item in value]
    return value.replace("$", id_) if isinstance(value, str) else value


async def populate(everything: Everything) -> None:
    """What the requests name by fixed ids."""
    ask = everything.ask
    users = [{"id": "acme"}, {"id": "ann", "name": "Ann"}, {"id": "bob", "name": "Bob"}]
    await ask(ParseDict({"users": users}, chat.UpsertUsersRequest()))
    general = {"type": "messaging", "id": "general", "member_ids": ["ann"]}
    await ask(ParseDict({"channels": [general]}, chat.UpsertChannelsRequest()))
    definitions: dict[str, Any] = {
        "list": {},
        "everyone": {"all_users": True},
        "matching": {"filter": FILTER},
    }
    for id_, definition in definitions.items():
        segment = {"id": id_, "type": "SEGMENT_TYPE_USER", **definition}
        await ask(ParseDict({"segment": segment}, segments.CreateSegmentRequest()))
    await ask(segments.AddTargetsRequest(segment_id="list", target_ids=["ann", "bob"]))
    await ask(valid("CreateCampaign", "draft"))


async def prepare(everything: Everything, method: str, id_: str) -> None:
    """What the valid request of the method names by the id of its case."""
    ask = everything.ask
    match method:
        case "UpdateSegment" | "DeleteSegment":
            await ask(valid("CreateSegment", id_))
        case "AddMembers" | "RemoveMembers" | "MarkRead":
            channel: dict[str, Any] = {"type": "messaging", "id": id_}
            if method != "AddMembers":
                channel["member_ids"] = ["ann"]
            await ask(ParseDict({"channels": [channel]}, chat.UpsertChannelsRequest()))
        case "UpdateCampaign" | "DeleteCampaign" | "StartCampaign":
            await ask(valid("CreateCampaign", id_))
        case "StopCampaign":
            await ask(valid("CreateCampaign", id_))
            await ask(campaigns.StartCampaignRequest(id=id_))
        case _:
            pass
