"""Which channel each target's message goes to, before anyone has looked whether it is there."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from campaign_service.campaigns import ChannelTemplate
from campaign_service.compiled import CompiledCampaign
from campaign_service.ids import derived_channel_id
from campaign_service.outcomes import NotSent, Reason
from campaign_service.templates import RenderError
from campaign_service.views import view
from chat_store.distinct import distinct_channel_id, is_distinct
from chat_store.models import PickedUser, UserState, cid_of

_UNREACHABLE = {
    UserState.DELETED: Reason.USER_DELETED,
    UserState.DEACTIVATED: Reason.USER_DEACTIVATED,
}
_CHANNEL_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


# tuples, for there is one a target, and a tuple is made in a quarter of the time
class Address(NamedTuple):
    """A target that may get a message. `variables` are what its templates see.

    `channel_id` and `distinct` are for making the channel, where that is possible at all.
    """

    target_id: str
    cid: str
    variables: dict[str, Any]
    channel_id: str | None = None
    distinct: bool = False


class Receiver(NamedTuple):
    """A user who can be reached, and what the campaign's templates see."""

    id: str
    variables: dict[str, Any]


def reach(run: CompiledCampaign, target_id: str, user: PickedUser | None) -> Receiver | NotSent:
    if user is None:
        return NotSent(target_id, Reason.USER_NOT_FOUND)
    reason = _obstacle(run, user)
    if reason is not None:
        return NotSent(target_id, reason)
    variables = {
        "sender": run.sender_view,
        "receiver": view(user.values),
        "custom": user.values.get("custom"),
    }
    return Receiver(target_id, variables)


def address_by_template(
    run: CompiledCampaign, template: ChannelTemplate, receiver: Receiver
) -> Address | NotSent:
    """The channel with the rendered id; without one, that of its members; else a derived one."""
    channel_id = _channel_id(run, receiver)
    if isinstance(channel_id, Reason):
        return NotSent(receiver.id, channel_id)
    return Address(
        receiver.id,
        cid_of(template.type, channel_id),
        receiver.variables,
        channel_id,
        is_distinct(channel_id),
    )


def address_directly(cids: Mapping[str, str], receiver: Receiver) -> Address | NotSent:
    """Without a template: `cids` has each receiver's existing channel with the sender."""
    cid = cids.get(receiver.id)
    if cid is None:
        return NotSent(receiver.id, Reason.CHANNEL_NOT_FOUND)
    return Address(receiver.id, cid, receiver.variables)


def address_channels(run: CompiledCampaign, cids: Iterable[str]) -> list[Address]:
    return [Address(cid, cid, {"sender": run.sender_view}) for cid in cids]


def _obstacle(run: CompiledCampaign, user: PickedUser) -> Reason | None:
    team = run.required_team
    if user.state is UserState.ACTIVE and team is not None and team not in user.values["teams"]:
        return Reason.TEAM_MISMATCH
    return _UNREACHABLE.get(user.state)


def _channel_id(run: CompiledCampaign, receiver: Receiver) -> str | Reason:
    if run.templates.channel_id is not None:
        try:
            channel_id = run.templates.channel_id.render(receiver.variables)
        except RenderError:
            return Reason.TEMPLATE_ERROR
        return channel_id if _CHANNEL_ID.fullmatch(channel_id) else Reason.CHANNEL_ID_INVALID
    members = run.standing_ids | {receiver.id}
    if len(members) > 1:
        return distinct_channel_id(members)
    return derived_channel_id(run.id, receiver.id)
