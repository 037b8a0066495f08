"""CampaignService: each call decodes its request, does its work and encodes the response."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

from campaign_service.lifecycle.lifecycle import Lifecycle
from campaign_service.lifecycle.preview import Previews
from campaign_service.reporting.campaign_view import CampaignViews
from campaign_service.reporting.watch_hub import WatchHub
from campaign_service.storage.ports import CampaignStore, DeliveryStore
from campaign_service.wire.campaign import times_from_proto
from campaign_service.wire.delivery import (
    delivery_to_proto,
    outcome_from_proto,
    preview_request_from_proto,
    previews_to_proto,
)
from campaign_service.wire.filter_fields import CAMPAIGN_FIELDS
from campaign_service.wire.spec import change_from_proto, spec_from_proto
from campaign_service.wire.watch import position_from_proto
from chat_store.ids import MAX_ID
from chat_store.models import User
from chat_store.paging import Page, PageRequest
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.campaign.v1 import campaign_service_pb2_grpc as pb_grpc
from herald.campaign.v1.campaign_pb2 import Campaign
from herald.chat.v1 import chat_pb2
from herald_rpc.wire.fields import required, text
from herald_rpc.wire.queries import PageSizes, read_paging, read_query
from herald_rpc.wire.response_pages import fitting_count, fitting_page
from herald_rpc.wire.users import user_to_proto

_CAMPAIGNS = PageSizes(default=25, largest=100)
_USERS = PageSizes(default=100, largest=1_000)
_DELIVERIES = PageSizes(default=25, largest=1_000)
_LISTED_USERS = PageSizes(default=0, largest=1_000)


class CampaignServicer(pb_grpc.CampaignServiceServicer):
    def __init__(
        self,
        lifecycle: Lifecycle,
        campaigns: CampaignStore,
        views: CampaignViews,
        previews: Previews,
        deliveries: DeliveryStore,
        watch_hub: WatchHub,
    ) -> None:
        self._lifecycle = lifecycle
        self._campaigns = campaigns
        self._views = views
        self._previews = previews
        self._deliveries = deliveries
        self._watch_hub = watch_hub

    async def CreateCampaign(
        self, request: pb.CreateCampaignRequest, context: Any
    ) -> pb.CreateCampaignResponse:
        campaign = await self._lifecycle.create(
            text(request.campaign.id, "campaign.id", MAX_ID),
            spec_from_proto(request.campaign),
            validate_only=request.validate_only,
        )
        return pb.CreateCampaignResponse(campaign=await self._views.of(campaign))

    async def GetCampaign(
        self, request: pb.GetCampaignRequest, context: Any
    ) -> pb.GetCampaignResponse:
        id_ = required(request.id, "id", MAX_ID)
        paging = read_paging(
            "campaign-users",
            request.user_page_size,
            request.user_page_token,
            sizes=_USERS,
            bound_to=[id_],
            field="user_page",
        )
        message = await self._views.get(id_)

        async def read(page: PageRequest) -> Page[User | None]:
            if not message.user_ids:
                return Page(())
            ids = await self._campaigns.user_ids(id_, page)
            found = {user.id: user for user in await self._views.existing_users(ids.items)}
            # one item per id, so that a page that is cut short ends at an id
            return Page(tuple(map(found.get, ids.items)), ids.next_cursor, ids.prev_cursor)

        answer = await fitting_page(
            paging, read, _user_or_nothing, reserved_bytes=message.ByteSize()
        )
        message.users.extend(user for user in answer.records if user.id)
        return pb.GetCampaignResponse(
            campaign=message,
            next_user_page_token=answer.next_token,
            prev_user_page_token=answer.prev_token,
        )

    async def UpdateCampaign(
        self, request: pb.UpdateCampaignRequest, context: Any
    ) -> pb.UpdateCampaignResponse:
        campaign = await self._lifecycle.update(
            required(request.campaign.id, "campaign.id", MAX_ID),
            request.campaign.etag,
            change_from_proto(request),
        )
        self._watch_hub.poll_now(campaign.id)
        return pb.UpdateCampaignResponse(campaign=await self._views.of(campaign))

    async def DeleteCampaign(
        self, request: pb.DeleteCampaignRequest, context: Any
    ) -> pb.DeleteCampaignResponse:
        await self._lifecycle.delete(required(request.id, "id", MAX_ID))
        self._watch_hub.poll_now(request.id)
        return pb.DeleteCampaignResponse()

    async def QueryCampaigns(
        self, request: pb.QueryCampaignsRequest, context: Any
    ) -> pb.QueryCampaignsResponse:
        user_limit = _LISTED_USERS.size(request.user_limit, "user_limit")
        query = await read_query(
            "campaigns",
            filter=request.filter,
            sort=request.sort,
            page_size=request.page_size,
            page_token=request.page_token,
            sizes=_CAMPAIGNS,
            catalogue=CAMPAIGN_FIELDS,
            bound_to=[user_limit],
        )

        async def read(page: PageRequest) -> Page[Campaign]:
            found = await self._campaigns.query(query.predicate, page)
            campaigns = await self._views.of_many(found.items)
            for campaign in campaigns if user_limit else ():
                ids = await self._campaigns.user_ids(campaign.id, PageRequest(user_limit))
                users = list(map(user_to_proto, await self._views.existing_users(ids.items)))
                fitting = fitting_count(users, reserved_bytes=campaign.ByteSize())
                campaign.users.extend(users[:fitting])
            return Page(campaigns, found.next_cursor, found.prev_cursor)

        answer = await fitting_page(query.paging, read, lambda campaign: campaign)
        return pb.QueryCampaignsResponse(
            campaigns=answer.records,
            next_page_token=answer.next_token,
            prev_page_token=answer.prev_token,
        )

    async def StartCampaign(
        self, request: pb.StartCampaignRequest, context: Any
    ) -> pb.StartCampaignResponse:
        campaign = await self._lifecycle.start(
            required(request.id, "id", MAX_ID), times_from_proto(request)
        )
        self._watch_hub.poll_now(campaign.id)
        return pb.StartCampaignResponse(campaign=await self._views.of(campaign))

    async def StopCampaign(
        self, request: pb.StopCampaignRequest, context: Any
    ) -> pb.StopCampaignResponse:
        campaign = await self._lifecycle.stop(required(request.id, "id", MAX_ID))
        self._watch_hub.poll_now(campaign.id)
        return pb.StopCampaignResponse(campaign=await self._views.of(campaign))

    async def WatchCampaign(
        self, request: pb.WatchCampaignRequest, context: Any
    ) -> AsyncIterator[pb.WatchCampaignResponse]:
        id_ = required(request.id, "id", MAX_ID)
        async with aclosing(self._watch_hub.updates(id_, position_from_proto(request))) as updates:
            async for update in updates:
                yield update.message

    async def PreviewCampaign(
        self, request: pb.PreviewCampaignRequest, context: Any
    ) -> pb.PreviewCampaignResponse:
        previews = await self._previews.of(preview_request_from_proto(request))
        return pb.PreviewCampaignResponse(previews=previews_to_proto(previews))

    async def QueryDeliveries(
        self, request: pb.QueryDeliveriesRequest, context: Any
    ) -> pb.QueryDeliveriesResponse:
        id_ = required(request.campaign_id, "campaign_id", MAX_ID)
        outcome = outcome_from_proto(request.outcome, "outcome")
        paging = read_paging(
            "deliveries",
            request.page_size,
            request.page_token,
            sizes=_DELIVERIES,
            bound_to=[id_, outcome],
        )
        answer = await fitting_page(
            paging, partial(self._deliveries.of_campaign, id_, outcome), delivery_to_proto
        )
        return pb.QueryDeliveriesResponse(
            deliveries=answer.records,
            next_page_token=answer.next_token,
            prev_page_token=answer.prev_token,
        )


def _user_or_nothing(user: User | None) -> chat_pb2.User:
    return user_to_proto(user) if user else chat_pb2.User()
