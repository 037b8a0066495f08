"""What a run has no need of, done before it for the sake of the step that it takes.

Each can be repeated after any failure; what was acknowledged is then read back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from chat_store.models import cid_of
from herald.access.v1 import access_pb2
from herald.access.v1 import access_service_pb2 as access_pb
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as campaigns_pb
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as chat_pb
from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as segments_pb
from tests.faults import dataset
from tests.faults.client import Client
from tests.faults.webhook_calls import WEBHOOK_ERRANDS

# each with things of its own, by that id
Errand = Callable[[Client, str], Awaitable[object]]

_ABORT_SECONDS = 30.0
_POLL_SECONDS = 0.1


async def _upsert_users(client: Client, id_: str) -> None:
    user = chat_pb2.User(id=id_, name="Errand")
    await client.call(client.chat.UpsertUsers, chat_pb.UpsertUsersRequest(users=[user]))
    assert (await _user(client, id_)).name == "Errand"


async def _mark_users(client: Client, id_: str) -> None:
    await _upsert_users(client, id_)
    request = chat_pb.DeactivateUsersRequest(ids=[id_])
    await client.call(client.chat.DeactivateUsers, request)
    assert (await _user(client, id_)).HasField("deactivated_at")


async def _upsert_channels(client: Client, id_: str) -> None:
    await client.call(
        client.chat.UpsertChannels,
        chat_pb.UpsertChannelsRequest(channels=[chat_pb2.Channel(type="messaging", id=id_)]),
    )
    assert not (await _channel(client, id_)).HasField("deleted_at")


async def _delete_channels(client: Client, id_: str) -> None:
    await _upsert_channels(client, id_)
    await client.call(
        client.chat.DeleteChannels, chat_pb.DeleteChannelsRequest(cids=[cid_of("messaging", id_)])
    )
    assert (await _channel(client, id_)).HasField("deleted_at")


async def _add_members(client: Client, id_: str) -> None:
    await _upsert_channels(client, id_)
    member = chat_pb2.Member(user_id=dataset.SENDER_ID)
    await client.call(
        client.chat.AddMembers,
        chat_pb.AddMembersRequest(cid=cid_of("messaging", id_), members=[member]),
    )
    assert (await _channel(client, id_)).member_count == 1


async def _remove_members(client: Client, id_: str) -> None:
    await _add_members(client, id_)
    request = chat_pb.RemoveMembersRequest(
        cid=cid_of("messaging", id_), user_ids=[dataset.SENDER_ID]
    )
    await client.call(client.chat.RemoveMembers, request)
    assert (await _channel(client, id_)).member_count == 0


async def _set_membership(client: Client, id_: str) -> None:
    await _add_members(client, id_)
    request = chat_pb.SetMembershipRequest(
        cid=cid_of("messaging", id_), user_id=dataset.SENDER_ID, hidden=True
    )
    await client.call(client.chat.SetMembership, request)
    answer = await client.call(
        client.chat.QueryMembers, chat_pb.QueryMembersRequest(cid=cid_of("messaging", id_))
    )
    assert [member.hidden for member in answer.members] == [True]


async def _mark_read(client: Client, id_: str) -> None:
    await _add_members(client, id_)
    request = chat_pb.MarkReadRequest(cid=cid_of("messaging", id_), user_id=dataset.SENDER_ID)
    await client.call(client.chat.MarkRead, request)


async def _upsert_devices(client: Client, id_: str) -> None:
    device = chat_pb2.Device(
        id=id_, user_id=dataset.SENDER_ID, push_provider=chat_pb2.PUSH_PROVIDER_APN
    )
    await client.call(client.chat.UpsertDevices, chat_pb.UpsertDevicesRequest(devices=[device]))


async def _delete_devices(client: Client, id_: str) -> None:
    await _upsert_devices(client, id_)
    await client.call(client.chat.DeleteDevices, chat_pb.DeleteDevicesRequest(ids=[id_]))


async def _import(client: Client, id_: str) -> None:
    await client.bring_in([{"type": "user", "data": {"id": id_, "name": "Imported"}}])
    assert (await _user(client, id_)).name == "Imported"


async def _update_segment(client: Client, id_: str) -> None:
    await _create_segment(client, id_)
    request = segments_pb.UpdateSegmentRequest(
        segment=segment_pb2.Segment(id=id_, description="changed"),
        update_mask=FieldMask(paths=["description"]),
    )
    await client.call(client.segments.UpdateSegment, request)
    assert (await _segment(client, id_)).description == "changed"


async def _delete_segment(client: Client, id_: str) -> None:
    await _create_segment(client, id_)
    await client.call(client.segments.DeleteSegment, segments_pb.DeleteSegmentRequest(id=id_))
    assert (await _segment(client, id_)).HasField("deleted_at")


async def _remove_targets(client: Client, id_: str) -> None:
    await _create_segment(client, id_)
    ids = [dataset.user_id(number) for number in range(10)]
    added = segments_pb.AddTargetsRequest(segment_id=id_, target_ids=ids)
    await client.call(client.segments.AddTargets, added)
    removed = segments_pb.RemoveTargetsRequest(segment_id=id_, target_ids=ids[:4])
    await client.call(client.segments.RemoveTargets, removed)
    assert (await _segment(client, id_)).size == 6


async def _update_campaign(client: Client, id_: str) -> None:
    await _create_campaign(client, id_)
    request = campaigns_pb.UpdateCampaignRequest(
        campaign=campaign_pb2.Campaign(id=id_, description="changed"),
        update_mask=FieldMask(paths=["description"]),
    )
    await client.call(client.campaigns.UpdateCampaign, request)
    assert (await _campaign(client, id_)).description == "changed"


async def _delete_campaign(client: Client, id_: str) -> None:
    await _create_campaign(client, id_)
    await client.call(client.campaigns.DeleteCampaign, campaigns_pb.DeleteCampaignRequest(id=id_))
    assert (await _campaign(client, id_)).HasField("deleted_at")


async def _create_token(client: Client, id_: str) -> str:
    """A repeated call may have made two."""
    token = access_pb2.Token(name=id_, scopes=["chat:read"])
    request = access_pb.CreateTokenRequest(token=token)
    made = (await client.call(client.access.CreateToken, request)).token
    query = access_pb.GetTokenRequest(id=made.id)
    assert (await client.call(client.access.GetToken, query)).token == made
    return str(made.id)


async def _revoke_token(client: Client, id_: str) -> None:
    request = access_pb.RevokeTokenRequest(id=await _create_token(client, id_))
    revoked = (await client.call(client.access.RevokeToken, request)).token
    assert revoked.HasField("revoked_at")


async def _abort_run(client: Client, id_: str) -> None:
    """A campaign whose segment is deleted while it runs: stopped by itself, with the reason."""
    await _create_segment(client, id_)
    ids = [dataset.user_id(number) for number in range(60)]
    added = segments_pb.AddTargetsRequest(segment_id=id_, target_ids=ids)
    await client.call(client.segments.AddTargets, added)
    await _create_campaign(client, id_, segment_ids=[id_], max_messages_per_second=60)
    start = campaigns_pb.StartCampaignRequest(id=id_)
    await client.call(client.campaigns.StartCampaign, start)
    await client.call(client.segments.DeleteSegment, segments_pb.DeleteSegmentRequest(id=id_))
    assert id_ in await _stop_reason(client, id_)


async def _fail_for_everyone(client: Client, id_: str) -> None:
    """A campaign whose template fails for every target: stopped by itself, and nobody is used up."""
    template = campaign_pb2.MessageTemplate(text="{{ 'x' * 20001 }}")
    await _create_campaign(client, id_, message_template=template)
    start = campaigns_pb.StartCampaignRequest(id=id_)
    await client.call(client.campaigns.StartCampaign, start)
    assert "every target would fail" in await _stop_reason(client, id_)
    assert not (await _campaign(client, id_)).stats.targets_failed


async def _stop_reason(client: Client, id_: str) -> str:
    """Waits until the campaign has stopped by itself."""
    async with asyncio.timeout(_ABORT_SECONDS):
        # the server tells of it in answers only
        while (await _campaign(client, id_)).status != campaign_pb2.CAMPAIGN_STATUS_STOPPED:  # noqa: ASYNC110 - as above
            await asyncio.sleep(_POLL_SECONDS)
    return (await _campaign(client, id_)).status_reason


async def _user(client: Client, id_: str) -> chat_pb2.User:
    answer = await client.call(client.chat.GetUser, chat_pb.GetUserRequest(id=id_))
    user: chat_pb2.User = answer.user
    return user


async def _channel(client: Client, id_: str) -> chat_pb2.Channel:
    answer = await client.call(
        client.chat.GetChatChannel, chat_pb.GetChatChannelRequest(cid=cid_of("messaging", id_))
    )
    channel: chat_pb2.Channel = answer.channel
    return channel


async def _create_segment(client: Client, id_: str) -> None:
    segment = segment_pb2.Segment(id=id_, type=segment_pb2.SEGMENT_TYPE_USER)
    request = segments_pb.CreateSegmentRequest(segment=segment)
    await client.call(client.segments.CreateSegment, request)


async def _segment(client: Client, id_: str) -> segment_pb2.Segment:
    answer = await client.call(client.segments.GetSegment, segments_pb.GetSegmentRequest(id=id_))
    segment: segment_pb2.Segment = answer.segment
    return segment


async def _create_campaign(client: Client, id_: str, **changes: Any) -> None:
    campaign = campaign_pb2.Campaign(
        **{
            "id": id_,
            "sender_id": dataset.SENDER_ID,
            "user_ids": [] if "segment_ids" in changes else [dataset.user_id(1)],
            "message_template": campaign_pb2.MessageTemplate(text="Hi"),
            **changes,
        }
    )
    request = campaigns_pb.CreateCampaignRequest(campaign=campaign)
    await client.call(client.campaigns.CreateCampaign, request)


async def _campaign(client: Client, id_: str) -> campaign_pb2.Campaign:
    request = campaigns_pb.GetCampaignRequest(id=id_)
    answer = await client.call(client.campaigns.GetCampaign, request)
    campaign: campaign_pb2.Campaign = answer.campaign
    return campaign


ERRANDS: Mapping[str, Errand] = {
    "users.upsert": _upsert_users,
    "users.mark": _mark_users,
    "channels.upsert": _upsert_channels,
    "channels.delete": _delete_channels,
    "members.add": _add_members,
    "members.remove": _remove_members,
    "members.set": _set_membership,
    "messages.mark-read": _mark_read,
    "devices.upsert": _upsert_devices,
    "devices.delete": _delete_devices,
    "import.batch": _import,
    "segment.update": _update_segment,
    "segment.delete": _delete_segment,
    "targets.remove": _remove_targets,
    "campaign.update": _update_campaign,
    "campaign.delete": _delete_campaign,
    "token.create": _create_token,
    "token.revoke": _revoke_token,
    "run.abort": _abort_run,
    "run.abort-unless-others-send": _fail_for_everyone,
    **WEBHOOK_ERRANDS,
}
