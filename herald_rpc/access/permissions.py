"""The scope that each method of each service needs. A method without an entry is denied to all."""

from collections.abc import Mapping

from chat_store.access.scopes import Scope

_SEGMENT = "herald.segment.v1.SegmentService"
_CHAT = "herald.chat.v1.ChatService"
_CAMPAIGN = "herald.campaign.v1.CampaignService"
_EVENT = "herald.event.v1.EventService"
_ACCESS = "herald.access.v1.AccessService"

_METHODS: Mapping[tuple[str, Scope], str] = {
    (_SEGMENT, Scope.SEGMENTS_READ): """
        GetSegment QuerySegments TargetExists QueryTargets CountTargets StreamTargets FilterTargets
        ExplainTarget
    """,
    (_SEGMENT, Scope.SEGMENTS_WRITE): """
        CreateSegment UpdateSegment DeleteSegment AddTargets RemoveTargets
    """,
    (_CHAT, Scope.CHAT_READ): """
        GetUser QueryUsers GetChatChannel QueryChannels QueryMembers QueryMessages
    """,
    (_CHAT, Scope.CHAT_WRITE): """
        UpsertUsers DeactivateUsers ReactivateUsers DeleteUsers RestoreUsers UpsertChannels
        DeleteChannels AddMembers RemoveMembers SetMembership MarkRead UpsertDevices DeleteDevices
        Import
    """,
    (_CAMPAIGN, Scope.CAMPAIGNS_READ): """
        GetCampaign QueryCampaigns WatchCampaign QueryDeliveries
    """,
    # a preview writes nothing, but its template shows whatever it likes of any user
    (_CAMPAIGN, Scope.CAMPAIGNS_WRITE): """
        CreateCampaign UpdateCampaign DeleteCampaign PreviewCampaign
    """,
    (_CAMPAIGN, Scope.CAMPAIGNS_SEND): "StartCampaign StopCampaign",
    (_EVENT, Scope.EVENTS_READ): """
        GetWebhook QueryWebhooks QueryWebhookAttempts StreamEvents
    """,
    (_EVENT, Scope.EVENTS_WRITE): """
        CreateWebhook UpdateWebhook DeleteWebhook RotateWebhookSecret RedeliverAttempt ReplayEvents
    """,
    (_ACCESS, Scope.ACCESS_READ): "GetToken QueryTokens QueryAudit",
    (_ACCESS, Scope.ACCESS_WRITE): "CreateToken RevokeToken",
}

PERMISSIONS: Mapping[str, Scope] = {
    f"/{service}/{method}": scope
    for (service, scope), methods in _METHODS.items()
    for method in methods.split()
}
"""The scope by the method's path, as `/package.Service/Method`."""
