"""The fields that campaigns can be filtered and sorted by."""

from campaign_service.campaigns.model import Status
from chat_store.filters.fields import Catalogue, Field, Kind

CAMPAIGN_FIELDS = Catalogue(
    (
        *(Field(name, Kind.STRING) for name in ("id", "name", "sender_id")),
        Field("status", Kind.STRING, words=tuple(Status)),
        Field("segments", Kind.STRINGS),
        *(Field(name, Kind.DATE) for name in ("created_at", "updated_at", "scheduled_for")),
    ),
    allow_custom=False,
)
