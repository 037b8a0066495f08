"""The channel of each target's message, before it is known whether that channel exists."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from campaign_service.campaigns.ids import derived_channel_id
from campaign_service.campaigns.model import ChannelTemplate
from campaign_service.campaigns.outcomes import NotSent, Reason
from campaign_service.planning.compiled import CompiledCampaign
from campaign_service.templates.text_templates import RenderError
from campaign_service.templates.views import JsonView
from chat_store.distinct_channels import distinct_channel_id, is_distinct
from chat_store.ids import is_chosen_channel_id
from chat_store.models import PickedChannel, PickedUser, UserState, cid_of

_UNREACHABLE = {
    UserState.DELETED: Reason.USER_DELETED,
    UserState.DEACTIVATED: Reason.USER_DEACTIVATED,
}


# a tuple, because there is one per target, and it is made in a quarter of a dataclass's time
class Route(NamedTuple):
    """A target that may get a message.

    `receiver` is the user as templates see it, None in campaigns to channels. `channel_id` and
    `distinct` are for creating the channel, if that is possible at all.
    """

    target_id: str
    cid: str
    receiver: JsonView | None
    channel_id: str | None = None
    distinct: bool = False


def resolve_receiver(
    run: CompiledCampaign, target_id: str, user: PickedUser | None
) -> JsonView | NotSent:
    """Returns the receiver's template variables, or why the receiver can't be reached."""
    if user is None:
        return NotSent(target_id, Reason.USER_NOT_FOUND)
    if user.state is not UserState.ACTIVE:
        return NotSent(target_id, _UNREACHABLE[user.state])
    receiver = run.receiver_fields.view(user.values)
    if run.required_team is not None and run.required_team not in receiver["teams"]:
        return NotSent(target_id, Reason.TEAM_MISMATCH)
    return receiver


def route_by_template(
    run: CompiledCampaign, template: ChannelTemplate, target_id: str, receiver: JsonView
) -> Route | NotSent:
    """Routes to the channel with the rendered id, or to that of its members, or to a derived id."""
    channel_id = _channel_id(run, target_id, receiver)
    if isinstance(channel_id, NotSent):
        return channel_id
    cid = cid_of(template.type, channel_id)
    return Route(target_id, cid, receiver, channel_id, is_distinct(channel_id))


def route_to_direct_channel(
    channels: Mapping[str, PickedChannel], target_id: str, receiver: JsonView
) -> Route | NotSent:
    """Routes without a template: `channels` maps receivers to their channel with the sender."""
    channel = channels.get(target_id)
    if channel is None:
        return NotSent(target_id, Reason.CHANNEL_NOT_FOUND)
    return Route(target_id, channel.cid, receiver)


def routes_to_channels(cids: Iterable[str]) -> list[Route]:
    return [Route(cid, cid, None) for cid in cids]


def _channel_id(run: CompiledCampaign, target_id: str, receiver: JsonView) -> str | NotSent:
    if run.templates.channel_id is not None:
        try:
            channel_id = run.templates.channel_id.render(run.variables(receiver))
        except RenderError as error:
            return NotSent(target_id, Reason.TEMPLATE_ERROR, explanation=str(error))
        if is_chosen_channel_id(channel_id):
            return channel_id
        return NotSent(target_id, Reason.CHANNEL_ID_INVALID, explanation=repr(channel_id))
    members = run.fixed_member_ids | {target_id}
    if len(members) > 1:
        return distinct_channel_id(members)
    return derived_channel_id(run.id, target_id)
