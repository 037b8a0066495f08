"""CampaignService: per call decode, do, encode."""

from typing import Any
from uuid import uuid4

from campaign_service.fields import CAMPAIGN_FIELDS
from campaign_service.lifecycle import Lifecycle
from campaign_service.presentation import Presentation
from campaign_service.store import CampaignStore
from campaign_service.wire import definition_from_proto
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.campaign.v1 import campaign_service_pb2_grpc as pb_grpc
from herald_wire.fields import MAX_ID, required, text
from herald_wire.queries import PageSizes, read_paging, read_query

_CAMPAIGNS = PageSizes(default=25, largest=100)
_USERS = PageSizes(default=100, largest=1_000)


class CampaignServicer(pb_grpc.CampaignServiceServicer):
    def __init__(
        self, lifecycle: Lifecycle, campaigns: CampaignStore, presentation: Presentation
    ) -> None:
        self._lifecycle = lifecycle
        self._campaigns = campaigns
        self._presentation = presentation

    async def CreateCampaign(
        self, request: pb.CreateCampaignRequest, context: Any
    ) -> pb.CreateCampaignResponse:
        campaign_id = text(request.campaign.id, "campaign.id", MAX_ID) or str(uuid4())
        campaign = await self._lifecycle.create(
            campaign_id,
            definition_from_proto(request.campaign),
            validate_only=request.validate_only,
        )
        return pb.CreateCampaignResponse(campaign=await self._presentation.one(campaign))

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
        campaign = await self._campaigns.get(id_)
        page = await self._campaigns.user_ids(id_, paging.request)
        next_token, prev_token = paging.tokens(page)
        return pb.GetCampaignResponse(
            campaign=await self._presentation.with_users(campaign, page.items),
            next_user_page_token=next_token,
            prev_user_page_token=prev_token,
        )

    async def QueryCampaigns(
        self, request: pb.QueryCampaignsRequest, context: Any
    ) -> pb.QueryCampaignsResponse:
        query = read_query(
            "campaigns",
            filter=request.filter,
            sort=request.sort,
            page_size=request.page_size,
            page_token=request.page_token,
            sizes=_CAMPAIGNS,
            catalogue=CAMPAIGN_FIELDS,
        )
        page = await self._campaigns.query(query.predicate, query.paging.request)
        next_token, prev_token = query.paging.tokens(page)
        return pb.QueryCampaignsResponse(
            campaigns=await self._presentation.many(page.items),
            next_page_token=next_token,
            prev_page_token=prev_token,
        )

    async def StartCampaign(
        self, request: pb.StartCampaignRequest, context: Any
    ) -> pb.StartCampaignResponse:
        campaign = await self._lifecycle.start(required(request.id, "id", MAX_ID))
        return pb.StartCampaignResponse(campaign=await self._presentation.one(campaign))

    async def StopCampaign(
        self, request: pb.StopCampaignRequest, context: Any
    ) -> pb.StopCampaignResponse:
        campaign = await self._lifecycle.stop(required(request.id, "id", MAX_ID))
        return pb.StopCampaignResponse(campaign=await self._presentation.one(campaign))
