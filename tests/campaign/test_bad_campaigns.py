"""What CreateCampaign refuses: each with its code, its reason and the path of the field."""

import math
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from tests.campaign.builders import SENDER_ID, a_campaign_message
from tests.campaign.refusals import refusal_of
from tests.campaign.server_pair import ServerPair

INVALID = grpc.StatusCode.INVALID_ARGUMENT
LONG = "x" * 256
TEXT = "campaign.message_template.text"
MESSAGE = "campaign.message_template"
CHANNEL = "campaign.channel_template"


def with_text(text: str, **changes: Any) -> dict[str, Any]:
    return {"message_template": {"text": text}, **changes}


def to_segments(*ids: str, **changes: Any) -> dict[str, Any]:
    return {"user_ids": None, "segment_ids": list(ids), **changes}


def with_channel(**changes: Any) -> dict[str, Any]:
    return {"channel_template": {"type": "messaging", **changes}}


def to_rooms(text: str, **changes: Any) -> dict[str, Any]:
    return to_segments("rooms", **with_text(text), create_channels=None, **changes)


# what is changed in a good campaign, and the field that is refused
FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "no sender": ({"sender_id": None}, "campaign.sender_id"),
    "no message": ({"message_template": None}, MESSAGE),
    "no text": ({"message_template": {}}, TEXT),
    "no channel type": ({"channel_template": {"id": "x"}}, f"{CHANNEL}.type"),
    "both audiences": ({"segment_ids": ["vips"]}, "campaign.user_ids"),
    "no audience": ({"user_ids": None}, "campaign.segment_ids"),
    "an empty user id": ({"user_ids": ["ann", ""]}, "campaign.user_ids[1]"),
    "an empty segment id": (to_segments("vips", ""), "campaign.segment_ids[1]"),
    "channels to create like nothing": ({"channel_template": None}, CHANNEL),
    "members twice over": (
        with_channel(members=["ann"], members_template=[{"user_id": "bob"}]),
        f"{CHANNEL}.members_template",
    ),
    "a member twice": (
        with_channel(members_template=[{"user_id": "bob"}, {"user_id": "bob"}]),
        f"{CHANNEL}.members_template[1].user_id",
    ),
    "an empty member": (with_channel(members=[""]), f"{CHANNEL}.members[0]"),
    "a member without a name": (
        with_channel(members_template=[{"channel_role": "x"}]),
        f"{CHANNEL}.members_template[0].user_id",
    ),
    "mixed segments": (to_segments("vips", "rooms"), "campaign.segment_ids"),
    "a channel type with a colon": ({"channel_template": {"type": "a:b"}}, f"{CHANNEL}.type"),
    "a channel type with an accent": ({"channel_template": {"type": "é"}}, f"{CHANNEL}.type"),
    "a negative limit": ({"max_messages_per_second": -1}, "campaign.max_messages_per_second"),
    "NUL in the id": ({"id": "a\0b"}, "campaign.id"),
    "NUL in the name": ({"name": "a\0b"}, "campaign.name"),
    "NUL in the description": ({"description": "\0"}, "campaign.description"),
    "NUL in the sender": ({"sender_id": "a\0"}, "campaign.sender_id"),
    "NUL in a user": ({"user_ids": ["\0"]}, "campaign.user_ids[0]"),
    "NUL in the text": (with_text("a\0b"), TEXT),
    "NUL in the poll": ({"message_template": {"text": "x", "poll_id": "\0"}}, f"{MESSAGE}.poll_id"),
    "NUL in custom data": (
        {"message_template": {"text": "x", "custom": {"a": ["\0"]}}},
        f"{MESSAGE}.custom.a[0]",
    ),
    "NUL in a key": (
        {"message_template": {"text": "x", "custom": {"a": {"\0": 1}}}},
        f"{MESSAGE}.custom.a",
    ),
    "NUL in an attachment": (
        {"message_template": {"text": "x", "attachments": [{}, {"a": "\0"}]}},
        f"{MESSAGE}.attachments[1].a",
    ),
    "NUL in the team": (with_channel(team="\0"), f"{CHANNEL}.team"),
    "NUL in the channel id": (with_channel(id="\0"), f"{CHANNEL}.id"),
    "too large a number": (
        {"message_template": {"text": "x", "custom": {"a": 2**53}}},
        f"{MESSAGE}.custom.a",
    ),
}

# what is changed, the field that is refused, its limit and what was given
LIMITS: dict[str, tuple[dict[str, Any], str, int, int]] = {
    "id": ({"id": LONG}, "campaign.id", 255, 256),
    "sender": ({"sender_id": LONG}, "campaign.sender_id", 255, 256),
    "segments": (to_segments(*["vips"] * 26), "campaign.segment_ids", 25, 26),
    "a segment": (to_segments("vips", LONG), "campaign.segment_ids[1]", 255, 256),
    "users": ({"user_ids": ["ann"] * 10_001}, "campaign.user_ids", 10_000, 10_001),
    "a user": ({"user_ids": [LONG]}, "campaign.user_ids[0]", 255, 256),
    "text": (with_text("é" * 20_001), TEXT, 20_000, 20_001),
    "attachments": (
        {"message_template": {"text": "x", "attachments": [{}] * 31}},
        f"{MESSAGE}.attachments",
        30,
        31,
    ),
    "custom": (
        {"message_template": {"text": "x", "custom": {"a": "é" * 2_557}}},
        f"{MESSAGE}.custom",
        5_120,
        5_122,
    ),
    "channel custom": (with_channel(custom={"a": "x" * 5_113}), f"{CHANNEL}.custom", 5_120, 5_121),
    "member custom": (
        with_channel(members_template=[{"user_id": "ann", "custom": {"a": "x" * 5_113}}]),
        f"{CHANNEL}.members_template[0].custom",
        5_120,
        5_121,
    ),
    "role": (
        with_channel(members_template=[{"user_id": "ann", "channel_role": "x" * 65}]),
        f"{CHANNEL}.members_template[0].channel_role",
        64,
        65,
    ),
    "channel type": ({"channel_template": {"type": "x" * 65}}, f"{CHANNEL}.type", 64, 65),
    "members": (with_channel(members=["ann"] * 1_001), f"{CHANNEL}.members", 1_000, 1_001),
    "members template": (
        with_channel(members_template=[{"user_id": "ann"}] * 1_001),
        f"{CHANNEL}.members_template",
        1_000,
        1_001,
    ),
    "a member": (with_channel(members=[LONG]), f"{CHANNEL}.members[0]", 255, 256),
}

# what is changed, the field that is refused, and a part of what is wrong
TEMPLATES: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown name": (with_text("{{ reciever.name }}"), TEXT, "unknown name 'reciever'"),
    "syntax": (with_text("Hi\n{{ receiver.name"), TEXT, "line 2"),
    "include": (with_text("{% include 'x' %}"), TEXT, "include"),
    "import": (with_text("{% import 'x' as y %}"), TEXT, "import"),
    "extends": (with_text("{% extends 'x' %}"), TEXT, "extends"),
    "range": (with_text("{{ range(10**9) }}"), TEXT, "call"),
    "custom": (
        {"message_template": {"text": "x", "custom": {"a": ["{{ nobody }}"]}}},
        f"{MESSAGE}.custom.a[0]",
        "unknown name 'nobody'",
    ),
    "attachments": (
        {"message_template": {"text": "x", "attachments": [{"a": "{{ 1"}]}},
        f"{MESSAGE}.attachments[0].a",
        "line 1",
    ),
    "channel id": (with_channel(id="{{ channel.id }}"), f"{CHANNEL}.id", "unknown name 'channel'"),
    "channel custom": (with_channel(custom={"a": "{{ x }}"}), f"{CHANNEL}.custom.a", "unknown"),
    "receiver for channels": (
        to_rooms("{{ receiver.name }}"),
        TEXT,
        "unknown name 'receiver'; known here: channel, custom, sender",
    ),
}

# what is changed, the field, the reason and the metadata
REFERENCES: dict[str, tuple[dict[str, Any], str, str, dict[str, str]]] = {
    "unknown sender": ({"sender_id": "x"}, "campaign.sender_id", "SENDER", {"sender_id": "x"}),
    "deactivated sender": (
        {"sender_id": "asleep"},
        "campaign.sender_id",
        "SENDER",
        {"sender_id": "asleep"},
    ),
    "deleted sender": (
        {"sender_id": "gone"},
        "campaign.sender_id",
        "SENDER",
        {"sender_id": "gone"},
    ),
    "unknown member": (
        with_channel(members=["ann", "x"]),
        f"{CHANNEL}.members[1]",
        "MEMBER",
        {"user_id": "x"},
    ),
    "deleted member": (
        with_channel(members_template=[{"user_id": "ann"}, {"user_id": "gone"}]),
        f"{CHANNEL}.members_template[1]",
        "MEMBER",
        {"user_id": "gone"},
    ),
    "unknown segment": (
        to_segments("vips", "x"),
        "campaign.segment_ids[1]",
        "SEGMENT",
        {"segment_id": "x"},
    ),
    "deleted segment": (
        to_segments("old"),
        "campaign.segment_ids[0]",
        "SEGMENT",
        {"segment_id": "old"},
    ),
}


def created(services: ServerPair, campaign: campaign_pb2.Campaign) -> Any:
    return services.campaigns.CreateCampaign(pb.CreateCampaignRequest(campaign=campaign))


@pytest.mark.parametrize(("changes", "field"), FIELDS.values(), ids=FIELDS)
async def test_a_field_that_breaks_a_rule_is_refused(
    refusing_services: ServerPair, changes: dict[str, Any], field: str
) -> None:
    refusal = await refusal_of(created(refusing_services, a_campaign_message(changes)))

    assert (refusal.code, refusal.reason) == (INVALID, "INVALID_FIELD")
    assert (refusal.fields, refusal.metadata) == ((field,), {"field": field})


@pytest.mark.parametrize(("changes", "field", "limit", "given"), LIMITS.values(), ids=LIMITS)
async def test_what_is_over_a_limit_is_refused(
    refusing_services: ServerPair, changes: dict[str, Any], field: str, limit: int, given: int
) -> None:
    refusal = await refusal_of(created(refusing_services, a_campaign_message(changes)))

    assert (refusal.code, refusal.reason) == (INVALID, "LIMIT_EXCEEDED")
    assert refusal.fields == (field,)
    assert refusal.metadata == {"field": field, "limit": str(limit), "given": str(given)}


@pytest.mark.parametrize(("changes", "field", "problem"), TEMPLATES.values(), ids=TEMPLATES)
async def test_a_template_that_can_not_be_used_is_refused(
    refusing_services: ServerPair, changes: dict[str, Any], field: str, problem: str
) -> None:
    refusal = await refusal_of(created(refusing_services, a_campaign_message(changes)))

    assert (refusal.code, refusal.reason) == (INVALID, "INVALID_TEMPLATE")
    assert (refusal.fields, refusal.metadata["field"]) == ((field,), field)
    assert problem in refusal.metadata["problem"]


@pytest.mark.parametrize(
    ("changes", "field", "kind", "metadata"), REFERENCES.values(), ids=REFERENCES
)
async def test_what_is_named_must_be_there(
    refusing_services: ServerPair,
    changes: dict[str, Any],
    field: str,
    kind: str,
    metadata: dict[str, str],
) -> None:
    refusal = await refusal_of(created(refusing_services, a_campaign_message(changes)))

    assert (refusal.code, refusal.reason) == (INVALID, f"{kind}_NOT_FOUND")
    assert refusal.fields == (field,)
    assert refusal.metadata == {"field": field, **metadata}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["message", "channel", "member"])
async def test_a_number_that_is_not_finite_is_refused(
    refusing_services: ServerPair, number: float, place: str
) -> None:
    campaign = a_campaign_message()
    member = campaign.channel_template.members_template.add(user_id="ann")
    custom, field = {
        "message": (campaign.message_template.custom, f"{MESSAGE}.custom.a"),
        "channel": (campaign.channel_template.custom, f"{CHANNEL}.custom.a"),
        "member": (member.custom, f"{CHANNEL}.members_template[0].custom.a"),
    }[place]
    custom.fields["a"].number_value = number

    refusal = await refusal_of(created(refusing_services, campaign))

    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "INVALID_FIELD", (field,))


def _unknown_mode(campaign: campaign_pb2.Campaign) -> None:
    campaign.sender_mode = 99  # type: ignore[assignment]


def _unknown_visibility(campaign: campaign_pb2.Campaign) -> None:
    campaign.sender_visibility = 99  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_unknown_mode, "campaign.sender_mode"),
        (_unknown_visibility, "campaign.sender_visibility"),
    ],
)
async def test_a_value_that_no_enum_has_is_refused(
    refusing_services: ServerPair, change: Callable[[campaign_pb2.Campaign], None], field: str
) -> None:
    campaign = a_campaign_message()
    change(campaign)

    refusal = await refusal_of(created(refusing_services, campaign))

    assert (refusal.code, refusal.reason, refusal.fields) == (INVALID, "INVALID_FIELD", (field,))


async def test_an_empty_request_is_refused(refusing_services: ServerPair) -> None:
    refusal = await refusal_of(
        refusing_services.campaigns.CreateCampaign(pb.CreateCampaignRequest())
    )

    assert (refusal.code, refusal.fields) == (INVALID, ("campaign.sender_id",))


@pytest.mark.parametrize(
    "changes",
    [
        {"sender_id": "x"},
        {"user_ids": None},
        with_text("{{ nobody }}"),
        with_text("x" * 20_001),
        to_segments("x"),
    ],
    ids=["sender", "audience", "template", "limit", "segment"],
)
async def test_a_check_alone_has_the_same_errors(
    refusing_services: ServerPair, changes: dict[str, Any]
) -> None:
    campaign = a_campaign_message(changes)
    check = pb.CreateCampaignRequest(campaign=campaign, validate_only=True)

    refusal = await refusal_of(refusing_services.campaigns.CreateCampaign(check))

    assert refusal == await refusal_of(created(refusing_services, campaign))


async def test_what_was_refused_is_not_there(refusing_services: ServerPair) -> None:
    campaign = a_campaign_message({"user_ids": None})
    await refusal_of(created(refusing_services, campaign))

    refusal = await refusal_of(refusing_services.get(campaign.id))

    assert refusal.reason == "CAMPAIGN_NOT_FOUND"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x" * 255, "sender_id": SENDER_ID},
        to_segments(*["vips"] * 25),
        {"user_ids": [f"u{number}" for number in range(10_000)]},
        {"user_ids": ["ü" * 255]},
        with_text("é" * 20_000),
        {"message_template": {"text": "x", "attachments": [{}] * 30}},
        {"message_template": {"text": "x", "custom": {"a": "é" * 2_556}}},
        with_channel(members=["ann"] * 1_000),
        with_channel(members=["asleep"]),
        with_channel(custom={"a": 2**53 - 1, "b": 1 - 2**53, "c": 0.1}),
        {"name": "x" * 5_000, "description": "x" * 5_000},
        to_rooms("{{ channel.name }} {{ custom.x }}", channel_template=None),
        to_rooms("Hi"),
    ],
    ids=[
        "long id",
        "25 segments",
        "10,000 users",
        "long user id",
        "long text",
        "30 attachments",
        "large custom",
        "1,000 members",
        "a deactivated member",
        "large numbers",
        "long name",
        "channels without a template",
        "channels with a template that they need not",
    ],
)
async def test_what_is_just_within_the_limits_is_taken(
    refusing_services: ServerPair, changes: dict[str, Any]
) -> None:
    given = a_campaign_message({"id": None, **changes})

    campaign = (await created(refusing_services, given)).campaign

    assert campaign.status == campaign_pb2.CAMPAIGN_STATUS_DRAFT
