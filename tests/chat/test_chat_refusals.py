from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from herald.chat.v1 import chat_pb2, sort_pb2
from herald.chat.v1 import chat_service_pb2 as pb
from tests.chat.running_chat import CID, Chat, Refusal, refusal, struct

pytestmark = pytest.mark.nightly_on("postgresql")


def user(**changes: Any) -> pb.UpsertUsersRequest:
    """One good user, and the one at stake."""
    return pb.UpsertUsersRequest(
        users=[chat_pb2.User(id="good"), chat_pb2.User(**{"id": "x", **changes})]
    )


def channel(**changes: Any) -> pb.UpsertChannelsRequest:
    """One good channel, and the one at stake."""
    return pb.UpsertChannelsRequest(
        channels=[
            chat_pb2.Channel(type="messaging", id="good"),
            chat_pb2.Channel(**{"type": "messaging", "id": "x", **changes}),
        ]
    )


def member(**changes: Any) -> pb.AddMembersRequest:
    """One good member, and the one at stake."""
    return pb.AddMembersRequest(
        cid=CID,
        members=[chat_pb2.Member(user_id="anna"), chat_pb2.Member(**{"user_id": "x", **changes})],
    )


def device(**changes: Any) -> pb.UpsertDevicesRequest:
    """One good device, and the one at stake."""
    good: dict[str, Any] = {"user_id": "anna", "push_provider": chat_pb2.PUSH_PROVIDER_APN}
    return pb.UpsertDevicesRequest(
        devices=[
            chat_pb2.Device(id="good", **good),
            chat_pb2.Device(**{"id": "x", **good, **changes}),
        ]
    )


def names(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    return [f"{place}-{row[0]}-{row[2]}" for place, row in enumerate(rows)]


MANY = [f"id-{number}" for number in range(1_001)]
LARGE = struct({"a": "x" * 5_120})
FAR = struct({"a": {"b": [1, 2.0**53 + 2]}})
INFINITE = struct({"a": float("inf")})
DAMAGED = "x"
BAD_TIME = Timestamp(seconds=253_402_300_800)

INVALID_FIELDS: list[tuple[str, Any, str]] = [
    ("UpsertUsers", pb.UpsertUsersRequest(), "users"),
    ("UpsertUsers", user(id=""), "users[1].id"),
    ("UpsertUsers", user(id="a,b"), "users[1].id"),
    ("UpsertUsers", user(id="a\nb"), "users[1].id"),
    ("UpsertUsers", user(id="a\0b"), "users[1].id"),
    ("UpsertUsers", user(name="a\0b"), "users[1].name"),
    ("UpsertUsers", user(teams=["red", ""]), "users[1].teams[1]"),
    ("UpsertUsers", user(custom=FAR), "users[1].custom.a.b[1]"),
    ("UpsertUsers", user(custom=INFINITE), "users[1].custom.a"),
    ("UpsertUsers", user(push_preferences=FAR), "users[1].push_preferences.a.b[1]"),
    ("UpsertUsers", user(created_at=BAD_TIME), "users[1].created_at"),
    ("UpsertUsers", pb.UpsertUsersRequest(users=[chat_pb2.User(id="x")], mode=9), "mode"),  # type: ignore[arg-type]
    ("GetUser", pb.GetUserRequest(), "id"),
    ("QueryUsers", pb.QueryUsersRequest(page_size=-1), "page_size"),
    ("DeactivateUsers", pb.DeactivateUsersRequest(), "ids"),
    ("DeactivateUsers", pb.DeactivateUsersRequest(ids=["a", ""]), "ids[1]"),
    ("ReactivateUsers", pb.ReactivateUsersRequest(), "ids"),
    ("ReactivateUsers", pb.ReactivateUsersRequest(ids=["a", ""]), "ids[1]"),
    ("RestoreUsers", pb.RestoreUsersRequest(), "ids"),
    ("RestoreUsers", pb.RestoreUsersRequest(ids=["a\0"]), "ids[0]"),
    ("DeleteUsers", pb.DeleteUsersRequest(), "ids"),
    ("DeleteUsers", pb.DeleteUsersRequest(ids=["a\0"]), "ids[0]"),
    ("UpsertChannels", pb.UpsertChannelsRequest(), "channels"),
    ("UpsertChannels", channel(type=""), "channels[1].type"),
    ("UpsertChannels", channel(type="a:b"), "channels[1].type"),
    ("UpsertChannels", channel(id=""), "channels[1].id"),
    ("UpsertChannels", channel(id="a b"), "channels[1].id"),
    ("UpsertChannels", channel(id="ä"), "channels[1].id"),
    ("UpsertChannels", channel(id="!members-"), "channels[1].id"),
    ("UpsertChannels", channel(id="x\n"), "channels[1].id"),
    ("UpsertChannels", channel(id="", member_ids=["a", "a"]), "channels[1].member_ids"),
    ("UpsertChannels", channel(member_ids=["a", ""]), "channels[1].member_ids[1]"),
    ("UpsertChannels", channel(filter_tags=[""]), "channels[1].filter_tags[0]"),
    ("UpsertChannels", channel(custom=FAR), "channels[1].custom.a.b[1]"),
    ("UpsertChannels", channel(created_at=BAD_TIME), "channels[1].created_at"),
    ("UpsertChannels", pb.UpsertChannelsRequest(channels=[chat_pb2.Channel(type="a", id="b")], mode=9), "mode"),  # type: ignore[arg-type]
    ("GetChatChannel", pb.GetChatChannelRequest(), "cid"),
    ("QueryChannels", pb.QueryChannelsRequest(page_size=-1), "page_size"),
    ("DeleteChannels", pb.DeleteChannelsRequest(), "cids"),
    ("DeleteChannels", pb.DeleteChannelsRequest(cids=["a", ""]), "cids[1]"),
    ("AddMembers", pb.AddMembersRequest(members=[chat_pb2.Member(user_id="anna")]), "cid"),
    ("AddMembers", pb.AddMembersRequest(cid=CID), "members"),
    ("AddMembers", member(user_id=""), "members[1].user_id"),
    ("AddMembers", member(channel_role="a\0"), "members[1].channel_role"),
    ("AddMembers", member(custom=FAR), "members[1].custom.a.b[1]"),
    ("RemoveMembers", pb.RemoveMembersRequest(user_ids=["a"]), "cid"),
    ("RemoveMembers", pb.RemoveMembersRequest(cid=CID), "user_ids"),
    ("RemoveMembers", pb.RemoveMembersRequest(cid=CID, user_ids=[""]), "user_ids[0]"),
    ("QueryMembers", pb.QueryMembersRequest(), "cid"),
    ("QueryMembers", pb.QueryMembersRequest(cid=CID, page_size=-1), "page_size"),
    ("QueryMessages", pb.QueryMessagesRequest(), "scope"),
    ("QueryMessages", pb.QueryMessagesRequest(cid=""), "cid"),
    ("QueryMessages", pb.QueryMessagesRequest(campaign_id=""), "campaign_id"),
    ("QueryMessages", pb.QueryMessagesRequest(cid=CID, page_size=-1), "page_size"),
    ("MarkRead", pb.MarkReadRequest(user_id="anna"), "cid"),
    ("MarkRead", pb.MarkReadRequest(cid=CID), "user_id"),
    ("MarkRead", pb.MarkReadRequest(cid=CID, user_id="anna", read_at=BAD_TIME), "read_at"),
    ("SetMembership", pb.SetMembershipRequest(user_id="anna"), "cid"),
    ("SetMembership", pb.SetMembershipRequest(cid=CID), "user_id"),
    ("SetMembership", pb.SetMembershipRequest(cid=CID, user_id="a\0"), "user_id"),
    ("UpsertDevices", pb.UpsertDevicesRequest(), "devices"),
    ("UpsertDevices", device(id=""), "devices[1].id"),
    ("UpsertDevices", device(id="a\0b"), "devices[1].id"),
    ("UpsertDevices", device(user_id=""), "devices[1].user_id"),
    ("UpsertDevices", device(push_provider=0), "devices[1].push_provider"),
    ("UpsertDevices", device(push_provider=9), "devices[1].push_provider"),
    ("UpsertDevices", device(push_provider_name="a\0"), "devices[1].push_provider_name"),
    ("UpsertDevices", device(hardware_id="a\0"), "devices[1].hardware_id"),
    ("UpsertDevices", device(created_at=BAD_TIME), "devices[1].created_at"),
    ("UpsertDevices", pb.UpsertDevicesRequest(devices=device().devices, mode=9), "mode"),  # type: ignore[arg-type]
    ("DeleteDevices", pb.DeleteDevicesRequest(), "ids"),
    ("DeleteDevices", pb.DeleteDevicesRequest(ids=["a", ""]), "ids[1]"),
    ("DeleteDevices", pb.DeleteDevicesRequest(ids=["a\0"]), "ids[0]"),
]  # fmt: skip

EXCEEDED_LIMITS: list[tuple[str, Any, str, int, int]] = [
    ("UpsertUsers", pb.UpsertUsersRequest(users=[chat_pb2.User(id=id_) for id_ in MANY]), "users", 1_000, 1_001),
    ("UpsertUsers", user(id="x" * 256), "users[1].id", 255, 256),
    ("UpsertUsers", user(custom=LARGE), "users[1].custom", 5_120, 5_128),
    ("UpsertUsers", user(push_preferences=LARGE), "users[1].push_preferences", 5_120, 5_128),
    ("GetUser", pb.GetUserRequest(id="x" * 256), "id", 255, 256),
    ("DeactivateUsers", pb.DeactivateUsersRequest(ids=MANY), "ids", 1_000, 1_001),
    ("ReactivateUsers", pb.ReactivateUsersRequest(ids=MANY), "ids", 1_000, 1_001),
    ("RestoreUsers", pb.RestoreUsersRequest(ids=MANY), "ids", 1_000, 1_001),
    ("DeleteUsers", pb.DeleteUsersRequest(ids=MANY), "ids", 1_000, 1_001),
    ("DeleteUsers", pb.DeleteUsersRequest(ids=["ä" * 256]), "ids[0]", 255, 256),
    ("UpsertChannels", pb.UpsertChannelsRequest(channels=[chat_pb2.Channel(type="a", id=id_) for id_ in MANY]), "channels", 1_000, 1_001),
    ("UpsertChannels", channel(type="x" * 65), "channels[1].type", 64, 65),
    ("UpsertChannels", channel(id="x" * 256), "channels[1].id", 255, 256),
    ("UpsertChannels", channel(created_by_id="x" * 256), "channels[1].created_by_id", 255, 256),
    ("UpsertChannels", channel(custom=LARGE), "channels[1].custom", 5_120, 5_128),
    ("UpsertChannels", channel(member_ids=MANY), "channels[1].member_ids", 1_000, 1_001),
    ("UpsertChannels", channel(member_ids=["x" * 256]), "channels[1].member_ids[0]", 255, 256),
    ("GetChatChannel", pb.GetChatChannelRequest(cid="x" * 321), "cid", 320, 321),
    ("DeleteChannels", pb.DeleteChannelsRequest(cids=MANY), "cids", 1_000, 1_001),
    ("AddMembers", pb.AddMembersRequest(cid=CID, members=[chat_pb2.Member(user_id=id_) for id_ in MANY]), "members", 1_000, 1_001),
    ("AddMembers", member(user_id="x" * 256), "members[1].user_id", 255, 256),
    ("AddMembers", member(channel_role="x" * 65), "members[1].channel_role", 64, 65),
    ("AddMembers", member(custom=LARGE), "members[1].custom", 5_120, 5_128),
    ("RemoveMembers", pb.RemoveMembersRequest(cid=CID, user_ids=MANY), "user_ids", 1_000, 1_001),
    ("QueryMembers", pb.QueryMembersRequest(cid="x" * 321), "cid", 320, 321),
    ("QueryMessages", pb.QueryMessagesRequest(campaign_id="x" * 256), "campaign_id", 255, 256),
    ("MarkRead", pb.MarkReadRequest(cid=CID, user_id="x" * 256), "user_id", 255, 256),
    ("SetMembership", pb.SetMembershipRequest(cid="x" * 321, user_id="anna"), "cid", 320, 321),
    ("SetMembership", pb.SetMembershipRequest(cid=CID, user_id="x" * 256), "user_id", 255, 256),
    ("UpsertDevices", pb.UpsertDevicesRequest(devices=[chat_pb2.Device(id=id_) for id_ in MANY]), "devices", 1_000, 1_001),
    ("UpsertDevices", device(id="😀" * 256), "devices[1].id", 255, 256),
    ("UpsertDevices", device(user_id="x" * 256), "devices[1].user_id", 255, 256),
    ("UpsertDevices", device(hardware_id="x" * 256), "devices[1].hardware_id", 255, 256),
    ("DeleteDevices", pb.DeleteDevicesRequest(ids=MANY), "ids", 1_000, 1_001),
    ("DeleteDevices", pb.DeleteDevicesRequest(ids=["x" * 256]), "ids[0]", 255, 256),
]  # fmt: skip


@pytest.mark.parametrize(("method", "request_", "path"), INVALID_FIELDS, ids=names(INVALID_FIELDS))
async def test_a_bad_field_is_refused_at_its_path(
    chat: Chat, method: str, request_: Any, path: str
) -> None:
    refused = await refusal(getattr(chat.call, method)(request_))

    assert refused == Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", {"field": path}, [path], ""
    )
    assert await chat.store.users.by_id(["good"]) == {}


@pytest.mark.parametrize(
    ("method", "request_", "path", "limit", "given"), EXCEEDED_LIMITS, ids=names(EXCEEDED_LIMITS)
)
async def test_what_is_over_a_limit_is_refused_with_both_numbers(
    chat: Chat, method: str, request_: Any, path: str, limit: int, given: int
) -> None:
    refused = await refusal(getattr(chat.call, method)(request_))

    metadata = {"field": path, "limit": str(limit), "given": str(given)}
    assert refused == Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED", metadata, [path], ""
    )


NO_CHANNEL = ("messaging:none", "messaging:gone")

NOT_FOUND: list[tuple[str, Any, str, str]] = [
    ("GetUser", pb.GetUserRequest(id="nobody"), "USER", "nobody"),
    ("UpsertChannels", channel(id="new", member_ids=["anna", "nobody"]), "USER", "nobody"),
    ("UpsertChannels", channel(id="new", member_ids=["zoe"]), "USER", "zoe"),
    ("UpsertChannels", channel(id="", member_ids=["anna", "zoe"]), "USER", "zoe"),
    ("UpsertChannels", channel(id="!members-none"), "CHANNEL", "messaging:!members-none"),
    ("GetChatChannel", pb.GetChatChannelRequest(cid="messaging:none"), "CHANNEL", "messaging:none"),
    ("GetChatChannel", pb.GetChatChannelRequest(cid="general"), "CHANNEL", "general"),
    ("AddMembers", member(user_id="nobody"), "USER", "nobody"),
    ("AddMembers", member(user_id="zoe"), "USER", "zoe"),
    *(
        ("AddMembers", pb.AddMembersRequest(cid=cid, members=[chat_pb2.Member(user_id="anna")]), "CHANNEL", cid)
        for cid in NO_CHANNEL
    ),
    *(
        ("RemoveMembers", pb.RemoveMembersRequest(cid=cid, user_ids=["anna"]), "CHANNEL", cid)
        for cid in NO_CHANNEL
    ),
    *(
        ("MarkRead", pb.MarkReadRequest(cid=cid, user_id="anna"), "CHANNEL", cid)
        for cid in NO_CHANNEL
    ),
    *(
        ("SetMembership", pb.SetMembershipRequest(cid=cid, user_id="anna"), "CHANNEL", cid)
        for cid in NO_CHANNEL
    ),
    ("UpsertDevices", device(user_id="nobody"), "USER", "nobody"),
    ("UpsertDevices", device(user_id="zoe"), "USER", "zoe"),
    ("QueryMembers", pb.QueryMembersRequest(cid="messaging:none"), "CHANNEL", "messaging:none"),
    ("QueryMessages", pb.QueryMessagesRequest(cid="messaging:none"), "CHANNEL", "messaging:none"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "request_", "kind", "id_"), NOT_FOUND, ids=names(NOT_FOUND))
async def test_what_is_not_there_is_named(
    chat_with_members: Chat, method: str, request_: Any, kind: str, id_: str
) -> None:
    refused = await refusal(getattr(chat_with_members.call, method)(request_))

    key = {"USER": "user_id", "CHANNEL": "cid"}[kind]
    assert refused == Refusal(grpc.StatusCode.NOT_FOUND, f"{kind}_NOT_FOUND", {key: id_}, [], id_)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("MarkRead", pb.MarkReadRequest(cid=CID, user_id="cleo")),
        ("SetMembership", pb.SetMembershipRequest(cid=CID, user_id="cleo", hidden=True)),
    ],
    ids=["MarkRead", "SetMembership"],
)
async def test_who_is_no_member_is_named(
    chat_with_members: Chat, method: str, request_: Any
) -> None:
    refused = await refusal(getattr(chat_with_members.call, method)(request_))

    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "MEMBER_NOT_FOUND")
    assert refused.metadata == {"cid": CID, "user_id": "cleo"}


@pytest.mark.parametrize(
    ("method", "request_", "reason", "path"),
    [
        ("QueryUsers", pb.QueryUsersRequest(filter=struct({"$and": [{"age": {"$in": 3}}]})), "INVALID_FILTER", "filter.$and[0].age.$in"),
        ("QueryChannels", pb.QueryChannelsRequest(filter=struct({"frozen": "yes"})), "INVALID_FILTER", "filter.frozen"),
        ("QueryUsers", pb.QueryUsersRequest(filter=INFINITE), "INVALID_FILTER", "filter.a"),
        ("QueryUsers", pb.QueryUsersRequest(sort=[sort_pb2.Sort(field="teams")]), "INVALID_SORT", "sort[0].field"),
        ("QueryChannels", pb.QueryChannelsRequest(sort=[sort_pb2.Sort(field="members")]), "INVALID_SORT", "sort[0].field"),
        ("QueryUsers", pb.QueryUsersRequest(sort=[sort_pb2.Sort(field="id", direction=9)]), "INVALID_SORT", "sort[0].direction"),  # type: ignore[arg-type]
        ("QueryChannels", pb.QueryChannelsRequest(sort=[sort_pb2.Sort(field="id", direction=-1)]), "INVALID_SORT", "sort[0].direction"),  # type: ignore[arg-type]
        ("QueryUsers", pb.QueryUsersRequest(page_token=DAMAGED), "INVALID_PAGE_TOKEN", "page_token"),
        ("QueryChannels", pb.QueryChannelsRequest(page_token=DAMAGED), "INVALID_PAGE_TOKEN", "page_token"),
        ("QueryMembers", pb.QueryMembersRequest(cid=CID, page_token=DAMAGED), "INVALID_PAGE_TOKEN", "page_token"),
        ("QueryMessages", pb.QueryMessagesRequest(cid=CID, page_token=DAMAGED), "INVALID_PAGE_TOKEN", "page_token"),
    ],
)  # fmt: skip
async def test_a_bad_query_is_refused_at_its_path(
    chat: Chat, method: str, request_: Any, reason: str, path: str
) -> None:
    refused = await refusal(getattr(chat.call, method)(request_))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert (refused.metadata["field"], refused.fields) == (path, [path])


async def test_a_token_holds_for_its_own_arguments_only(chat_with_members: Chat) -> None:
    first = await chat_with_members.call.QueryUsers(pb.QueryUsersRequest(page_size=1))
    members = await chat_with_members.call.QueryMembers(
        pb.QueryMembersRequest(cid=CID, page_size=1)
    )

    for request in (
        pb.QueryUsersRequest(page_token=first.next_page_token, include_deactivated=True),
        pb.QueryUsersRequest(page_token=first.next_page_token, filter=struct({"name": "x"})),
        pb.QueryUsersRequest(page_token=first.next_page_token, sort=[sort_pb2.Sort(field="id")]),
    ):
        assert (
            await refusal(chat_with_members.call.QueryUsers(request))
        ).reason == "INVALID_PAGE_TOKEN"
    other = pb.QueryMembersRequest(cid="messaging:gone", page_token=members.next_page_token)
    assert (
        await refusal(chat_with_members.call.QueryMembers(other))
    ).reason == "INVALID_PAGE_TOKEN"
