"""What templates see of users and channels: JSON objects with the product's field names."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chat_store.models import Channel, User

_USER_FIELDS = (
    "id",
    "name",
    "username",
    "email",
    "role",
    "language",
    "image",
    "teams",
    "banned",
    "shadow_banned",
    "created_at",
    "updated_at",
    "last_active",
)
_CHANNEL_FIELDS = (
    "cid",
    "id",
    "type",
    "name",
    "team",
    "created_by_id",
    "filter_tags",
    "frozen",
    "disabled",
    "member_count",
    "message_count",
    "created_at",
    "updated_at",
    "last_message_at",
)


@dataclass(frozen=True, slots=True)
class Fields:
    """What templates read of users or of channels, so that nothing else need be fetched."""

    built_in: tuple[str, ...]
    custom: bool

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.built_in, "custom") if self.custom else self.built_in

    def with_teams(self) -> "Fields":
        if "teams" in self.built_in:
            return self
        return Fields((*self.built_in, "teams"), self.custom)


def user_fields(read: frozenset[str] | None = None) -> Fields:
    """`read` may hold any name; what is not built in is a custom field. None means all."""
    return _fields(_USER_FIELDS, read)


def channel_fields(read: frozenset[str] | None = None) -> Fields:
    """As `user_fields`."""
    return _fields(_CHANNEL_FIELDS, read)


def _fields(built_in: tuple[str, ...], read: frozenset[str] | None) -> Fields:
    if read is None:
        return Fields(built_in, custom=True)
    return Fields(
        tuple(name for name in built_in if name in read), custom=not read <= set(built_in)
    )


def view(values: Mapping[str, Any]) -> dict[str, Any]:
    """Custom fields stand flat beside the built-in ones, which win, and whole under `custom`.

    What is unset is left out, so that `default` finds it missing.
    """
    seen = {**values.get("custom", {})}
    for name, value in values.items():
        if value is not None:
            seen[name] = _rfc_3339(value) if isinstance(value, datetime) else value
    return seen


def user_view(user: User) -> dict[str, Any]:
    return view({name: getattr(user, name) for name in user_fields().names})


def channel_view(channel: Channel) -> dict[str, Any]:
    return view({name: getattr(channel, name) for name in channel_fields().names})


def _rfc_3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
