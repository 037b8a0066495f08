"""The responses to watchers, and the tokens by which they resume."""

from campaign_service.campaigns.progress import WatchPosition
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald_rpc.server import page_tokens
from herald_rpc.wire.queries import InvalidTokenError, read_token

_KIND = "watch-campaign"
_FIELD = "resume_token"


def watch_response(
    campaign: campaign_pb2.Campaign, position: WatchPosition
) -> pb.WatchCampaignResponse:
    token = page_tokens.encode(_KIND, [campaign.id], [position.revision, position.progress])
    return pb.WatchCampaignResponse(campaign=campaign, resume_token=token)


def position_from_proto(request: pb.WatchCampaignRequest) -> WatchPosition | None:
    """Reads the watcher's position; None if it has seen nothing yet."""
    if not request.resume_token:
        return None
    match read_token(_KIND, [request.id], request.resume_token, _FIELD):
        case [int(revision), str(progress)] if revision > 0:
            return WatchPosition(revision, progress)
        case _:
            raise InvalidTokenError(_FIELD, "is damaged, or belongs to another call")
