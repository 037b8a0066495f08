"""The fields that campaigns can be filtered and sorted by."""

from chat_store.filters.fields import Catalogue, Field, Kind

CAMPAIGN_FIELDS = Catalogue(
    (
        *(Field(name, Kind.STRING) for name in ("id", "name", "status", "sender_id")),
        Field("segments", Kind.STRINGS),
        *(Field(name, Kind.DATE) for name in ("created_at", "updated_at", "scheduled_for")),
    ),
    allow_custom=False,
)
