"""What campaigns can be filtered and sorted by."""

from campaign_service.tables import campaign_users, campaigns
from chat_store.fields import Catalogue, Field, Kind
from chat_store.sql_filters import Binding

CAMPAIGN_FIELDS = Catalogue(
    (
        *(Field(name, Kind.STRING) for name in ("id", "name", "status", "sender_id")),
        Field("segments", Kind.STRINGS),
        *(Field(name, Kind.DATE) for name in ("created_at", "updated_at", "scheduled_for")),
    ),
    customs=False,
)

CAMPAIGN_BINDING = Binding(columns={**dict(campaigns.c), "segments": campaigns.c.segment_ids})
CAMPAIGN_USER_BINDING = Binding(columns=dict(campaign_users.c), key="user_id")
