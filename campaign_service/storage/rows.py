"""Converts between campaigns and rows."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from campaign_service.campaigns.model import (
    Campaign,
    CampaignSpec,
    ChannelTemplate,
    MemberTemplate,
    MessageTemplate,
    SenderMode,
    SenderVisibility,
    Stats,
    Status,
)
from campaign_service.storage.tables import COUNTERS


def spec_columns(spec: CampaignSpec) -> dict[str, Any]:
    """Returns the columns of `campaigns`; `user_ids` has a table of its own."""
    values = asdict(spec)
    del values["user_ids"]
    return values


def campaign_from_row(row: Row[Any], user_ids: tuple[str, ...]) -> Campaign:
    """Makes a campaign of a row that includes the sums of the counters."""
    return Campaign(
        id=row.id,
        spec=CampaignSpec(
            name=row.name,
            description=row.description,
            sender_id=row.sender_id,
            segment_ids=tuple(row.segment_ids),
            user_ids=user_ids,
            sender_mode=row.sender_mode and SenderMode(row.sender_mode),
            sender_visibility=row.sender_visibility and SenderVisibility(row.sender_visibility),
            message_template=_message_template(row.message_template),
            create_channels=row.create_channels,
            show_channels=row.show_channels,
            channel_template=row.channel_template and _channel_template(row.channel_template),
            skip_push=row.skip_push,
            skip_webhook=row.skip_webhook,
            max_messages_per_second=row.max_messages_per_second,
        ),
        to_channels=row.to_channels,
        status=Status(row.status),
        status_reason=row.status_reason,
        scheduled_for=row.scheduled_for,
        stop_at=row.stop_at,
        stats=Stats(
            started_at=row.started_at,
            completed_at=row.completed_at,
            targets_total=row.targets_total,
            **{name: getattr(row, name) for name in COUNTERS},
        ),
        revision=row.revision,
        created_at=row.created_at,
        created_by=row.created_by,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
        deleted_at=row.deleted_at,
    )


def _message_template(stored: dict[str, Any]) -> MessageTemplate:
    return MessageTemplate(**{**stored, "attachments": tuple(stored["attachments"])})


def _channel_template(stored: dict[str, Any]) -> ChannelTemplate:
    members = tuple(MemberTemplate(**member) for member in stored["members_template"])
    return ChannelTemplate(
        **{**stored, "members": tuple(stored["members"]), "members_template": members}
    )
