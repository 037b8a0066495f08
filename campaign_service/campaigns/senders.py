"""Whether the caller may write or start campaigns of a sender."""

from campaign_service.campaigns.errors import CampaignNotFoundError, SenderNotAllowedError
from herald_rpc.server.principals import current_principal

_READ = "campaigns:read"


def require_own_sender(campaign_id: str, sender_id: str) -> None:
    """Raises `SenderNotAllowedError` unless the caller's token is for the campaign's sender.

    A caller who may not read campaigns does not learn that there is one, and gets
    `CampaignNotFoundError`. The clock and the senders are no callers and may do everything.
    """
    principal = current_principal()
    if principal.may_send_as(sender_id):
        return
    if not principal.has(_READ):
        raise CampaignNotFoundError(campaign_id)
    raise SenderNotAllowedError(sender_id)
