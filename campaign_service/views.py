"""What templates see of users and channels: JSON objects with the product's field names."""

from datetime import datetime
from typing import Any

from chat_store.models import Channel, User


def user_view(user: User) -> dict[str, Any]:
    """Custom fields stand flat beside the built-in ones, which win, and whole under `custom`."""
    return {
        **user.custom,
        "id": user.id,
        "name": user.name,
        "username": user.username,
        "email": user.email,
        "role": user.role,
        "language": user.language,
        "image": user.image,
        "teams": user.teams,
        "banned": user.banned,
        "shadow_banned": user.shadow_banned,
        "created_at": _text(user.created_at),
        "updated_at": _text(user.updated_at),
        "last_active": _text(user.last_active),
        "custom": user.custom,
    }


def channel_view(channel: Channel) -> dict[str, Any]:
    """As `user_view`."""
    return {
        **channel.custom,
        "cid": channel.cid,
        "id": channel.id,
        "type": channel.type,
        "name": channel.name,
        "team": channel.team,
        "created_by_id": channel.created_by_id,
        "filter_tags": channel.filter_tags,
        "frozen": channel.frozen,
        "disabled": channel.disabled,
        "member_count": channel.member_count,
        "message_count": channel.message_count,
        "created_at": _text(channel.created_at),
        "updated_at": _text(channel.updated_at),
        "last_message_at": _text(channel.last_message_at),
        "custom": channel.custom,
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
