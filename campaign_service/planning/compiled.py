"""A campaign made ready to run: its templates compiled, its constants worked out once."""

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
    """Every template of a campaign. `channel_id` is None where the id is not rendered."""

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
        """`custom` alone is the receiver's custom object."""
        return user_fields(_read(self.of_message | self.of_channel, "receiver", with_custom=True))

    def channel_fields(self, *, to_channels: bool) -> Fields:
        """In campaigns to channels, `custom` alone is the channel's custom object."""
        return channel_fields(_read(self.of_message, "channel", with_custom=to_channels))


def _read(reads: Reads, name: str, *, with_custom: bool) -> frozenset[str] | None:
    read = reads.fields_of(name)
    return (
        read | {"custom"} if read is not None and with_custom and "custom" in reads.names else read
    )


def compile_templates(spec: CampaignSpec, *, to_channels: bool) -> Templates:
    """Raises `InvalidTemplateError` at the field that holds the template."""
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
    """All that planning a page needs and that is the same for every page."""

    id: str
    spec: CampaignSpec
    to_channels: bool
    sender: User
    sender_view: JsonView
    templates: Templates
    message_reads_channel: bool
    receiver_fields: Fields
    channel_fields: Fields
    # whoever is not in it gets nothing; None where teams don't matter
    required_team: str | None
    message_id_prefix: str
    fixed_members: tuple[Member, ...]
    fixed_member_ids: frozenset[str]

    def variables(self, receiver: JsonView | None) -> JsonView:
        """What templates see; in campaigns to channels, which have no receivers, before these."""
        if receiver is None:
            return {"sender": self.sender_view}
        return {"sender": self.sender_view, "receiver": receiver, "custom": receiver.get("custom")}


def compile_campaign(
    campaign: Campaign, sender: User, moment: datetime, *, multi_tenancy: bool = False
) -> CompiledCampaign:
    """With `multi_tenancy`, receivers must be in the team of the channel template, if it has one."""
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
    """The names that stand for the channel or a part of it in a message."""
    return frozenset({"channel", "custom"} if campaign.to_channels else {"channel"})


def _fixed_members(spec: CampaignSpec, moment: datetime) -> tuple[Member, ...]:
    """Who is in every new channel beside its receiver: the sender, then the template's members."""
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
