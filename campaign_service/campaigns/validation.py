"""The rules of a campaign as a whole, beyond those of each field."""

from datetime import datetime

from campaign_service.campaigns.model import CampaignSpec, ChannelTemplate, Times
from chat_store.errors import InvalidInputError
from chat_store.ids import channel_type_problem


def check_audience(spec: CampaignSpec) -> None:
    """Raises `InvalidInputError` unless the audience is either segments or users."""
    if spec.segment_ids and spec.user_ids:
        raise InvalidInputError(
            "campaign.user_ids", "a campaign is for segments or for users, not for both"
        )
    if not spec.segment_ids and not spec.user_ids:
        raise InvalidInputError("campaign.segment_ids", "segment_ids or user_ids is required")


def check_channels(spec: CampaignSpec, *, to_channels: bool) -> None:
    """Raises `InvalidInputError` for a channel template that is invalid or missing."""
    template = spec.channel_template
    if spec.create_channels and template is None and not to_channels:
        raise InvalidInputError(
            "campaign.channel_template", "is required to create channels for users"
        )
    if template:
        _check_template(template, "campaign.channel_template")


def check_times(times: Times, now: datetime) -> None:
    """Raises `InvalidInputError` if `stop_at` is so early that nothing could be sent."""
    if times.stop_at is not None and times.stop_at <= max(now, times.scheduled_for or now):
        raise InvalidInputError("stop_at", "must be after now and after scheduled_for")


def _check_template(template: ChannelTemplate, at: str) -> None:
    if problem := channel_type_problem(template.type):
        raise InvalidInputError(f"{at}.type", problem)
    if template.members and template.members_template:
        raise InvalidInputError(f"{at}.members_template", "can't be combined with members")
    given = [member.user_id for member in template.members_template]
    for index, user_id in enumerate(given):
        if user_id in given[:index]:
            raise InvalidInputError(f"{at}.members_template[{index}].user_id", "is given twice")
