"""ChatService: reads and writes the chat store."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import partial
from typing import Any

from chat_store.filters.fields import CHANNEL_FIELDS, USER_FIELDS
from chat_store.ids import MAX_CID, MAX_ID
from chat_store.imports.lines import import_lines
from chat_store.store import ChatStore
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as pb
from herald.chat.v1 import chat_service_pb2_grpc as pb_grpc
from herald_rpc.wire.batches import MAX_RECORDS, batch, write_mode
from herald_rpc.wire.channels import (
    channel_from_proto,
    channel_to_proto,
    member_to_proto,
    named_channel,
    new_member_from_proto,
)
from herald_rpc.wire.devices import device_from_proto, device_to_proto
from herald_rpc.wire.fields import ids, moment, required, timestamp
from herald_rpc.wire.messages import message_to_proto, messages_scope
from herald_rpc.wire.queries import PageSizes, read_paging, read_query
from herald_rpc.wire.response_pages import fitting_page, whole_or_named
from herald_rpc.wire.users import user_from_proto, user_to_proto
from segment_service.chat_import import begun, import_response

_SIZES = PageSizes(default=25, largest=1_000)


class ChatServicer(pb_grpc.ChatServiceServicer):
    """Serves users, channels, members, messages and devices, and imports whole user bases."""

    def __init__(self, store: ChatStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    async def UpsertUsers(
        self, request: pb.UpsertUsersRequest, _context: Any
    ) -> pb.UpsertUsersResponse:
        given = batch(request.users, "users", user_from_proto)
        stored = await self._store.users.upsert(given, self._now(), write_mode(request.mode))
        users = ((user_to_proto(user), chat_pb2.User(id=user.id)) for user in stored)
        return pb.UpsertUsersResponse(users=whole_or_named(users))

    async def GetUser(self, request: pb.GetUserRequest, _context: Any) -> pb.GetUserResponse:
        user = await self._store.users.get(required(request.id, "id", MAX_ID))
        return pb.GetUserResponse(user=user_to_proto(user))

    async def QueryUsers(
        self, request: pb.QueryUsersRequest, _context: Any
    ) -> pb.QueryUsersResponse:
        query = await read_query(
            "users",
            filter=request.filter,
            sort=request.sort,
            page_size=request.page_size,
            page_token=request.page_token,
            sizes=_SIZES,
            catalogue=USER_FIELDS,
            bound_to=[request.include_deactivated],
        )
        find = partial(
            self._store.users.query,
            query.predicate,
            include_deactivated=request.include_deactivated,
        )
        page = await fitting_page(query.paging, find, user_to_proto)
        return pb.QueryUsersResponse(
            users=page.records, next_page_token=page.next_token, prev_page_token=page.prev_token
        )

    async def DeactivateUsers(
        self, request: pb.DeactivateUsersRequest, _context: Any
    ) -> pb.DeactivateUsersResponse:
        given = ids(request.ids, "ids", MAX_RECORDS)
        deactivated = await self._store.users.deactivate(given, self._now())
        return pb.DeactivateUsersResponse(deactivated=deactivated)

    async def DeleteUsers(
        self, request: pb.DeleteUsersRequest, _context: Any
    ) -> pb.DeleteUsersResponse:
        given = ids(request.ids, "ids", MAX_RECORDS)
        return pb.DeleteUsersResponse(deleted=await self._store.users.delete(given, self._now()))

    async def ReactivateUsers(
        self, request: pb.ReactivateUsersRequest, _context: Any
    ) -> pb.ReactivateUsersResponse:
        given = ids(request.ids, "ids", MAX_RECORDS)
        reactivated = await self._store.users.reactivate(given, self._now())
        return pb.ReactivateUsersResponse(reactivated=reactivated)

    async def RestoreUsers(
        self, request: pb.RestoreUsersRequest, _context: Any
    ) -> pb.RestoreUsersResponse:
        given = ids(request.ids, "ids", MAX_RECORDS)
        restored = await self._store.users.restore(given, self._now())
        return pb.RestoreUsersResponse(restored=restored)

    async def UpsertChannels(
        self, request: pb.UpsertChannelsRequest, _context: Any
    ) -> pb.UpsertChannelsResponse:
        given = batch(request.channels, "channels", channel_from_proto)
        stored = await self._store.channels.upsert(given, self._now(), write_mode(request.mode))
        channels = ((channel_to_proto(channel), named_channel(channel)) for channel in stored)
        return pb.UpsertChannelsResponse(channels=whole_or_named(channels))

    async def GetChatChannel(
        self, request: pb.GetChatChannelRequest, _context: Any
    ) -> pb.GetChatChannelResponse:
        channel = await self._store.channels.get(required(request.cid, "cid", MAX_CID))
        return pb.GetChatChannelResponse(channel=channel_to_proto(channel))

    async def QueryChannels(
        self, request: pb.QueryChannelsRequest, _context: Any
    ) -> pb.QueryChannelsResponse:
        query = await read_query(
            "channels",
            filter=request.filter,
            sort=request.sort,
            page_size=request.page_size,
            page_token=request.page_token,
            sizes=_SIZES,
            catalogue=CHANNEL_FIELDS,
        )
        find = partial(self._store.channels.query, query.predicate)
        page = await fitting_page(query.paging, find, channel_to_proto)
        return pb.QueryChannelsResponse(
            channels=page.records, next_page_token=page.next_token, prev_page_token=page.prev_token
        )

    async def DeleteChannels(
        self, request: pb.DeleteChannelsRequest, _context: Any
    ) -> pb.DeleteChannelsResponse:
        given = ids(request.cids, "cids", MAX_RECORDS, longest=MAX_CID)
        deleted = await self._store.channels.delete(given, self._now())
        return pb.DeleteChannelsResponse(deleted=deleted)

    async def AddMembers(
        self, request: pb.AddMembersRequest, _context: Any
    ) -> pb.AddMembersResponse:
        cid = required(request.cid, "cid", MAX_CID)
        given = batch(request.members, "members", partial(new_member_from_proto, cid=cid))
        added = await self._store.channels.add_members(cid, given, self._now())
        return pb.AddMembersResponse(added=added)

    async def RemoveMembers(
        self, request: pb.RemoveMembersRequest, _context: Any
    ) -> pb.RemoveMembersResponse:
        cid = required(request.cid, "cid", MAX_CID)
        given = ids(request.user_ids, "user_ids", MAX_RECORDS)
        removed = await self._store.channels.remove_members(cid, given)
        return pb.RemoveMembersResponse(removed=removed)

    async def QueryMembers(
        self, request: pb.QueryMembersRequest, _context: Any
    ) -> pb.QueryMembersResponse:
        cid = required(request.cid, "cid", MAX_CID)
        paging = read_paging(
            "members", request.page_size, request.page_token, sizes=_SIZES, bound_to=[cid]
        )
        find = partial(self._store.channels.query_members, cid)
        page = await fitting_page(paging, find, member_to_proto)
        return pb.QueryMembersResponse(
            members=page.records, next_page_token=page.next_token, prev_page_token=page.prev_token
        )

    async def SetMembership(
        self, request: pb.SetMembershipRequest, _context: Any
    ) -> pb.SetMembershipResponse:
        member = await self._store.members.set_membership(
            required(request.cid, "cid", MAX_CID),
            required(request.user_id, "user_id", MAX_ID),
            hidden=request.hidden if request.HasField("hidden") else None,
            archived=request.archived if request.HasField("archived") else None,
            now=self._now(),
        )
        return pb.SetMembershipResponse(member=member_to_proto(member))

    async def QueryMessages(
        self, request: pb.QueryMessagesRequest, _context: Any
    ) -> pb.QueryMessagesResponse:
        scope, id_ = messages_scope(request)
        paging = read_paging(
            "messages", request.page_size, request.page_token, sizes=_SIZES, bound_to=[scope, id_]
        )
        messages = self._store.messages
        find = partial(
            {"cid": messages.in_channel, "campaign_id": messages.of_campaign}[scope], id_
        )
        page = await fitting_page(paging, find, message_to_proto)
        return pb.QueryMessagesResponse(
            messages=page.records, next_page_token=page.next_token, prev_page_token=page.prev_token
        )

    async def MarkRead(self, request: pb.MarkReadRequest, _context: Any) -> pb.MarkReadResponse:
        cid = required(request.cid, "cid", MAX_CID)
        user_id = required(request.user_id, "user_id", MAX_ID)
        read_at = moment(request, "read_at", "read_at") or self._now()
        moved_to = await self._store.messages.mark_read(cid, user_id, read_at)
        return pb.MarkReadResponse(read_at=timestamp(moved_to))

    async def UpsertDevices(
        self, request: pb.UpsertDevicesRequest, _context: Any
    ) -> pb.UpsertDevicesResponse:
        given = batch(request.devices, "devices", device_from_proto)
        stored = await self._store.devices.upsert(given, self._now(), write_mode(request.mode))
        devices = ((device_to_proto(device), chat_pb2.Device(id=device.id)) for device in stored)
        return pb.UpsertDevicesResponse(devices=whole_or_named(devices))

    async def DeleteDevices(
        self, request: pb.DeleteDevicesRequest, _context: Any
    ) -> pb.DeleteDevicesResponse:
        given = ids(request.ids, "ids", MAX_RECORDS)
        return pb.DeleteDevicesResponse(deleted=await self._store.devices.delete(given))

    async def Import(
        self, requests: AsyncIterator[pb.ImportRequest], _context: Any
    ) -> pb.ImportResponse:
        mode, records = await begun(requests)
        return import_response(await import_lines(records, self._store, mode, self._now))
