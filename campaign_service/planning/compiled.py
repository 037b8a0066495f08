"""A campaign prepared for its run: compiled templates, and values that are computed once."""

from dataclasses import dataclass
from datetime import datetime

from campaign_service.campaigns.ids import message_id_prefix
from campaign_service.campaigns.limits import MAX_ATTACHMENTS_BYTES
from campaign_service.campaigns.model import Campaign, CampaignSpec, SenderMode, SenderVisibility
from campaign_service.templates.json_templates import CompiledJson, compile_json
from campaign_service.templates.parsing import Reads
from campaign_service.templates.text_templates import CompiledText, compile_text
from campaign_service.templates.views import (
    Fields,
    JsonView,
    channel_fields,
    user_fields,
    user_view,
)
from chat_store.models import MAX_CUSTOM_BYTES, Member, User

_OF_MESSAGES = frozenset({"sender", "receiver", "channel", "custom"})
_OF_CHANNEL_AUDIENCES = frozenset({"sender", "channel", "custom"})
_OF_CHANNELS = frozenset({"sender", "receiver", "custom"})


@dataclass(frozen=True, slots=True)
class Templates:
    """Every template of a campaign. `channel_id` is None if the id is not rendered."""

    text: CompiledText
    custom: CompiledJson
    attachments: CompiledJson
    channel_id: CompiledText | None
    channel_custom: CompiledJson

    @property
    def of_message(self) -> Reads:
        return self.text.reads | self.custom.reads | self.attachments.reads

    @property
    def of_channel(self) -> Reads:
        own = self.channel_custom.reads
        return own | self.channel_id.reads if self.channel_id else own

    @property
    def receiver_fields(self) -> Fields:
        """The receiver's fields that templates read. Plain `custom` is the receiver's object."""
        return user_fields(_read(self.of_message | self.of_channel, "receiver", with_custom=True))

    def channel_fields(self, *, to_channels: bool) -> Fields:
        """Returns the channel's fields that templates read.

        In campaigns to channels, plain `custom` is the channel's object.
        """
        return channel_fields(_read(self.of_message, "channel", with_custom=to_channels))


def _read(reads: Reads, name: str, *, with_custom: bool) -> frozenset[str] | None:
    read = reads.fields_of(name)
    return (
        read | {"custom"} if read is not None and with_custom and "custom" in reads.names else read
    )


def compile_templates(spec: CampaignSpec, *, to_channels: bool) -> Templates:
    """Compiles all templates. Raises `InvalidTemplateError` at the field of the template."""
    names = _OF_CHANNEL_AUDIENCES if to_channels else _OF_MESSAGES
    message = spec.message_template
    channel = spec.channel_template
    at = "campaign.message_template"
    return Templates(
        text=compile_text(message.text, f"{at}.text", names),
        custom=compile_json(message.custom, f"{at}.custom", names, most_bytes=MAX_CUSTOM_BYTES),
        attachments=compile_json(
            message.attachments, f"{at}.attachments", names, most_bytes=MAX_ATTACHMENTS_BYTES
        ),
        channel_id=compile_text(channel.id, "campaign.channel_template.id", _OF_CHANNELS)
        if channel and channel.id
        else None,
        channel_custom=compile_json(
            channel.custom if channel else {},
            "campaign.channel_template.custom",
            _OF_CHANNELS,
            most_bytes=MAX_CUSTOM_BYTES,
        ),
    )


@dataclass(frozen=True, slots=True)
class CompiledCampaign:
    """The data for planning that is the same for every page."""

    id: str
    spec: CampaignSpec
    to_channels: bool
    sender: User
    sender_view: JsonView
    templates: Templates
    message_reads_channel: bool
    receiver_fields: Fields
    channel_fields: Fields
    # receivers outside this team are skipped; None if teams don't matter
    required_team: str | None
    message_id_prefix: str
    fixed_members: tuple[Member, ...]
    fixed_member_ids: frozenset[str]

    def variables(self, receiver: JsonView | None) -> JsonView:
        """Returns the templates' variables. Campaigns to channels have no receiver."""
        if receiver is None:
            return {"sender": self.sender_view}
        return {"sender": self.sender_view, "receiver": receiver, "custom": receiver.get("custom")}


def compile_campaign(
    campaign: Campaign, sender: User, moment: datetime, *, multi_tenancy: bool = False
) -> CompiledCampaign:
    """Prepares a campaign. `multi_tenancy` requires the channel template's team of receivers."""
    fixed_members = _fixed_members(campaign.spec, moment)
    templates = compile_templates(campaign.spec, to_channels=campaign.to_channels)
    channel = campaign.spec.channel_template
    required_team = channel.team or None if multi_tenancy and channel else None
    fields = templates.receiver_fields
    return CompiledCampaign(
        id=campaign.id,
        spec=campaign.spec,
        to_channels=campaign.to_channels,
        sender=sender,
        sender_view=user_view(sender),
        templates=templates,
        message_reads_channel=bool(templates.of_message.names & _from_channel(campaign)),
        receiver_fields=fields.with_teams() if required_team else fields,
        channel_fields=templates.channel_fields(to_channels=campaign.to_channels),
        required_team=required_team,
        message_id_prefix=message_id_prefix(campaign.id),
        fixed_members=fixed_members,
        fixed_member_ids=frozenset(member.user_id for member in fixed_members),
    )


def _from_channel(campaign: Campaign) -> frozenset[str]:
    """Returns the variables that are the channel or a part of it in a message."""
    return frozenset({"channel", "custom"} if campaign.to_channels else {"channel"})


def _fixed_members(spec: CampaignSpec, moment: datetime) -> tuple[Member, ...]:
    """Returns the members of every new channel besides its receiver, the sender first."""
    members: dict[str, Member] = {}
    if spec.sender_mode is not SenderMode.EXCLUDE:
        visibility = spec.sender_visibility
        members[spec.sender_id] = Member(
            cid="",
            user_id=spec.sender_id,
            hidden=visibility is SenderVisibility.HIDDEN,
            archived_at=moment if visibility is SenderVisibility.ARCHIVED else None,
        )
    template = spec.channel_template
    for extra in template.extra_members if template else ():
        members.setdefault(
            extra.user_id,
            Member(
                cid="",
                user_id=extra.user_id,
                channel_role=extra.channel_role,
                custom=extra.custom,
            ),
        )
    return tuple(members.values())
