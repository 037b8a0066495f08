"""A call of every method, in an order in which each succeeds, and the audit entry that it leaves."""

from dataclasses import dataclass, field
from typing import Any

_FAR_AWAY = "2999-01-01T00:00:00Z"
_CID = "messaging:general"


@dataclass(frozen=True)
class AuditedCall:
    """`resource` is that of its entry; None: it reads, and leaves none."""

    method: str
    request: dict[str, Any] = field(default_factory=dict)
    resource: str | None = None
    revisions: tuple[int | None, int | None] = (None, None)


_CHANNEL = f"channels/{_CID}"
_SPRING = "campaigns/spring"

CALLS = (
    AuditedCall("UpsertUsers", {"users": [{"id": "ann"}, {"id": "bob"}]}, "2 users"),
    AuditedCall("GetUser", {"id": "ann"}),
    AuditedCall("QueryUsers"),
    AuditedCall("UpsertChannels", {"channels": [{"type": "messaging", "id": "general"}]}, _CHANNEL),
    AuditedCall("GetChatChannel", {"cid": _CID}),
    AuditedCall("QueryChannels"),
    AuditedCall("AddMembers", {"cid": _CID, "members": [{"user_id": "ann"}]}, _CHANNEL),
    AuditedCall("QueryMembers", {"cid": _CID}),
    AuditedCall("SetMembership", {"cid": _CID, "user_id": "ann", "hidden": True}, _CHANNEL),
    AuditedCall("MarkRead", {"cid": _CID, "user_id": "ann"}, _CHANNEL),
    AuditedCall("QueryMessages", {"cid": _CID}),
    AuditedCall(
        "UpsertDevices",
        {"devices": [{"id": "phone", "user_id": "ann", "push_provider": "PUSH_PROVIDER_APN"}]},
        "devices/phone",
    ),
    AuditedCall("DeleteDevices", {"ids": ["phone"]}, "devices/phone"),
    AuditedCall("RemoveMembers", {"cid": _CID, "user_ids": ["ann"]}, _CHANNEL),
    AuditedCall("DeleteChannels", {"cids": [_CID]}, _CHANNEL),
    AuditedCall("DeactivateUsers", {"ids": ["bob"]}, "users/bob"),
    AuditedCall("ReactivateUsers", {"ids": ["bob"]}, "users/bob"),
    AuditedCall("DeleteUsers", {"ids": ["bob"]}, "users/bob"),
    AuditedCall("RestoreUsers", {"ids": ["bob"]}, "users/bob"),
    AuditedCall(
        "Import",
        {"records": ['{"type": "user", "data": {"id": "cid"}}', "no record"]},
        "1 record",
    ),
    AuditedCall(
        "CreateSegment", {"segment": {"id": "vip", "type": "SEGMENT_TYPE_USER"}}, "segments/vip"
    ),
    AuditedCall("GetSegment", {"id": "vip"}),
    AuditedCall("QuerySegments"),
    AuditedCall("AddTargets", {"segment_id": "vip", "target_ids": ["a", "b"]}, "segments/vip"),
    AuditedCall("TargetExists", {"segment_id": "vip", "target_id": "a"}),
    AuditedCall("QueryTargets", {"segment_id": "vip"}),
    AuditedCall("CountTargets", {"segment_ids": ["vip"]}),
    AuditedCall("StreamTargets", {"segment_ids": ["vip"]}),
    AuditedCall("FilterTargets", {"segment_ids": ["vip"], "target_ids": ["a"]}),
    AuditedCall("ExplainTarget", {"segment_id": "vip", "target_id": "a"}),
    AuditedCall("RemoveTargets", {"segment_id": "vip", "target_ids": ["a"]}, "segments/vip"),
    AuditedCall("UpdateSegment", {"segment": {"id": "vip", "name": "new"}}, "segments/vip"),
    AuditedCall("DeleteSegment", {"id": "vip"}, "segments/vip"),
    AuditedCall(
        "CreateCampaign",
        {
            "campaign": {
                "id": "spring",
                "sender_id": "ann",
                "user_ids": ["bob"],
                "message_template": {"text": "hello"},
            }
        },
        _SPRING,
        (None, 1),
    ),
    AuditedCall("PreviewCampaign", {"id": "spring", "receiver_ids": ["bob"]}),
    AuditedCall("GetCampaign", {"id": "spring"}),
    AuditedCall("QueryCampaigns"),
    AuditedCall("WatchCampaign", {"id": "spring"}),
    AuditedCall("QueryDeliveries", {"campaign_id": "spring"}),
    AuditedCall(
        "UpdateCampaign",
        {"campaign": {"id": "spring", "name": "new"}, "update_mask": "name"},
        _SPRING,
        (1, 2),
    ),
    AuditedCall("StartCampaign", {"id": "spring", "scheduled_for": _FAR_AWAY}, _SPRING, (2, 3)),
    AuditedCall("StopCampaign", {"id": "spring"}, _SPRING, (3, 4)),
    AuditedCall("DeleteCampaign", {"id": "spring"}, _SPRING, (4, 5)),
    AuditedCall(
        "CreateWebhook",
        {"webhook": {"id": "hook", "url": "http://127.0.0.1:9/", "enabled": False}},
        "webhooks/hook",
    ),
    AuditedCall("GetWebhook", {"id": "hook"}),
    AuditedCall("QueryWebhooks"),
    AuditedCall(
        "UpdateWebhook",
        {"webhook": {"id": "hook", "url": "http://127.0.0.1:8/", "enabled": False}},
        "webhooks/hook",
    ),
    AuditedCall("RotateWebhookSecret", {"id": "hook"}, "webhooks/hook"),
    AuditedCall("ReplayEvents", {"webhook_id": "hook"}, "webhooks/hook"),
    AuditedCall("QueryWebhookAttempts", {"webhook_id": "hook"}),
    AuditedCall("RedeliverAttempt", {"id": "dead"}, "webhooks/hook/attempts/dead"),
    AuditedCall("StreamEvents"),
    AuditedCall("DeleteWebhook", {"id": "hook"}, "webhooks/hook"),
    # the server makes its id
    AuditedCall("CreateToken", {"token": {"name": "CRM", "scopes": ["chat:read"]}}, "tokens/"),
    AuditedCall("QueryTokens"),
    AuditedCall("GetToken", {"id": "$TOKEN"}),
    AuditedCall("RevokeToken", {"id": "$TOKEN"}, "tokens/"),
    AuditedCall("QueryAudit"),
)

# again, after the others: nothing is left to change
WITHOUT_EFFECT = (
    AuditedCall(
        "CreateCampaign",
        {
            "campaign": {
                "sender_id": "ann",
                "user_ids": ["ann"],
                "message_template": {"text": "hello"},
            },
            "validate_only": True,
        },
    ),
    AuditedCall("DeactivateUsers", {"ids": ["nobody"]}),
    AuditedCall("DeleteUsers", {"ids": ["nobody"]}),
    AuditedCall("DeleteChannels", {"cids": [_CID]}),
    AuditedCall("DeleteDevices", {"ids": ["phone"]}),
    AuditedCall("Import", {"records": ["no record"]}),
    AuditedCall("DeleteSegment", {"id": "vip"}),
    AuditedCall("DeleteCampaign", {"id": "spring"}),
    AuditedCall("CreateSegment", {"segment": {"id": "vip", "type": "SEGMENT_TYPE_USER"}}),
    AuditedCall("DeleteWebhook", {"id": "hook"}),
    AuditedCall("RevokeToken", {"id": "nothing"}),
)
