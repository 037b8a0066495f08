"""The payloads of events, as JSON: times are RFC 3339, and unset fields are left out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from campaign_service.campaigns.events import EventType
from campaign_service.campaigns.model import Campaign
from chat_store.models import Channel, Member, Message, User

Json = dict[str, Any]

_MOST_USER_BYTES = 4 * 1024


def campaign_payload(
    type_: EventType, campaign: Campaign, sender: User | None, created_at: datetime
) -> Json:
    """Returns the campaign as it was at its revision, with segments by id and without users.

    `users_read` is left out, because it is counted later.
    """
    spec = asdict(campaign.spec)
    # up to 10,000 would be in every event; GetCampaign returns them in pages
    del spec["user_ids"]
    stats = campaign.stats
    return {
        "type": type_,
        "created_at": rfc3339(created_at),
        "custom": {},
        "campaign": _without_none(
            {
                "id": campaign.id,
                **spec,
                "sender": user_json(sender) if sender else None,
                "status": campaign.status,
                "status_reason": campaign.status_reason,
                "scheduled_for": _time(campaign.scheduled_for),
                "stop_at": _time(campaign.stop_at),
                "created_at": _time(campaign.created_at),
                "created_by": campaign.created_by,
                "updated_at": _time(campaign.updated_at),
                "updated_by": campaign.updated_by,
                "deleted_at": _time(campaign.deleted_at),
                "stats": _without_none(
                    {
                        "started_at": _time(stats.started_at),
                        "completed_at": _time(stats.completed_at),
                        "targets_total": stats.targets_total,
                        "messages_sent": stats.messages_sent,
                        "users_sent": 0 if campaign.to_channels else stats.messages_sent,
                        "channels_created": stats.channels_created,
                        "targets_skipped": stats.targets_skipped,
                        "targets_failed": stats.targets_failed,
                        "progress": stats.progress,
                    }
                ),
            }
        ),
    }


def message_payload(message: Message, members: Sequence[Json], users: Mapping[str, Json]) -> Json:
    """Returns the payload of `message.new`."""
    author = users.get(message.user_id, {"id": message.user_id})
    return {
        **_head(EventType.MESSAGE_NEW, message, members),
        "message_id": message.id,
        "message": {
            **message.custom,
            **_without_none(
                {
                    "id": message.id,
                    "text": message.text,
                    "type": message.type,
                    "cid": message.cid,
                    "user": author,
                    "attachments": message.attachments,
                    "poll_id": message.poll_id,
                    "silent": False,
                    "created_at": _time(message.created_at),
                    "updated_at": _time(message.created_at),
                }
            ),
        },
        "user": author,
    }


def channel_payload(
    type_: EventType,
    message: Message,
    channel: Channel | None,
    members: Sequence[Json],
    users: Mapping[str, Json],
    *,
    user_id: str,
) -> Json:
    """Returns the payload of `channel.created`, `member.added` and `channel.visible`.

    `message` caused the event. `user_id` created the channel, entered it, or sees it again.
    """
    payload = {
        **_head(type_, message, members),
        "user": users.get(user_id, {"id": user_id}),
    }
    if channel is not None:
        payload["channel"] = _channel_json(channel, users)
    if type_ is EventType.MEMBER_ADDED:
        payload["member"] = {
            "user_id": user_id,
            "user": payload["user"],
            "channel_role": "channel_member",
            "created_at": payload["created_at"],
        }
    return payload


def webhook_payload(details: Mapping[str, Any], created_at: datetime) -> Json:
    """Returns the payload of `webhook.disabled`."""
    return {
        "type": EventType.WEBHOOK_DISABLED,
        "created_at": rfc3339(created_at),
        "webhook": dict(details),
    }


def members_json(members: Iterable[Member], users: Mapping[str, Json]) -> list[Json]:
    return [
        {
            "user_id": member.user_id,
            "user": users.get(member.user_id, {"id": member.user_id}),
            "channel_role": member.channel_role,
            "hidden": member.hidden,
            "created_at": _time(member.created_at),
        }
        for member in members
    ]


def user_json(user: User) -> Json:
    """Returns the user, with custom fields at the top level as in Stream's payloads.

    A user of more than 4 KiB is reduced to its id.
    """
    whole = {
        **user.custom,
        **_without_none(
            {
                "id": user.id,
                "name": user.name,
                "username": user.username,
                "role": user.role,
                "language": user.language,
                "image": user.image,
                "teams": user.teams,
                "banned": user.banned,
                "created_at": _time(user.created_at),
                "updated_at": _time(user.updated_at),
            }
        ),
    }
    # one event has 50 of them, and must fit into an answer
    return whole if len(orjson.dumps(whole)) <= _MOST_USER_BYTES else {"id": user.id}


@lru_cache(maxsize=1_024)
def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _head(type_: EventType, message: Message, members: Sequence[Json]) -> Json:
    channel_type, _, channel_id = message.cid.partition(":")
    return {
        "type": type_,
        "created_at": _time(message.created_at),
        "campaign_id": message.campaign_id,
        "cid": message.cid,
        "channel_type": channel_type,
        "channel_id": channel_id,
        "members": members,
    }


def _channel_json(channel: Channel, users: Mapping[str, Json]) -> Json:
    creator = channel.created_by_id
    return {
        **channel.custom,
        **_without_none(
            {
                "id": channel.id,
                "type": channel.type,
                "cid": channel.cid,
                "name": channel.name,
                "team": channel.team,
                "created_by": users.get(creator, {"id": creator}) if creator else None,
                "frozen": channel.frozen,
                "disabled": channel.disabled,
                "created_at": _time(channel.created_at),
                "updated_at": _time(channel.updated_at),
            }
        ),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _without_none(values: Mapping[str, Any]) -> Json:
    return {name: value for name, value in values.items() if value is not None}
