"""What a definition must fulfil as a whole, beyond each of its fields."""

from campaign_service.campaigns import Definition
from chat_store.errors import InvalidInputError


def check_audience(definition: Definition) -> None:
    """Raises `InvalidInputError`."""
    if definition.segment_ids and definition.user_ids:
        raise InvalidInputError(
            "campaign.user_ids", "a campaign is for segments or for users, not for both"
        )
    if not definition.segment_ids and not definition.user_ids:
        raise InvalidInputError("campaign.segment_ids", "segment_ids or user_ids is required")


def check_channels(definition: Definition, *, to_channels: bool) -> None:
    """Raises `InvalidInputError`."""
    template = definition.channel_template
    if definition.create_channels and template is None and not to_channels:
        raise InvalidInputError(
            "campaign.channel_template", "is required to create channels for users"
        )
    if template and template.members and template.members_template:
        raise InvalidInputError(
            "campaign.channel_template.members_template", "can't be combined with members"
        )
