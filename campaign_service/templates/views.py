"""Users and channels as templates see them: JSON objects with the fields' names in the API."""

from collections.abc import Sequence
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
    "push_preferences",
    "created_at",
    "updated_at",
    "last_active",
    "deactivated_at",
    "deleted_at",
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
    "distinct",
    "member_count",
    "message_count",
    "created_at",
    "updated_at",
    "last_message_at",
    "deleted_at",
)
_TIMES = frozenset(
    {
        "created_at",
        "updated_at",
        "last_active",
        "last_message_at",
        "deactivated_at",
        "deleted_at",
    }
)

# a user or channel as templates see it
JsonView = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of users or channels that templates read; no others need to be fetched."""

    names: tuple[str, ...]
    _times: tuple[str, ...]

    @classmethod
    def of(cls, names: tuple[str, ...]) -> "Fields":
        return cls(names, tuple(name for name in names if name in _TIMES))

    def with_teams(self) -> "Fields":
        return self if "teams" in self.names else Fields.of(("teams", *self.names))

    def view(self, values: Sequence[Any]) -> JsonView:
        """Returns the view of a record; `values` has the fields' values in their order.

        Custom fields are at the top level, unless a built-in field has the name, and again under
        `custom`. Unset fields are left out, so that `default` replaces them.
        """
        named = zip(self.names, values, strict=True)
        seen = {name: value for name, value in named if value is not None}
        for name in self._times:
            if name in seen:
                seen[name] = _rfc_3339(seen[name])
        return {**seen["custom"], **seen} if "custom" in seen else seen


def user_fields(read: frozenset[str] | None = None) -> Fields:
    """Returns the named fields; names that are not built in are custom fields. None means all."""
    return _fields(_USER_FIELDS, read)


def channel_fields(read: frozenset[str] | None = None) -> Fields:
    """Does as `user_fields`, for channels."""
    return _fields(_CHANNEL_FIELDS, read)


def _fields(built_in: tuple[str, ...], read: frozenset[str] | None) -> Fields:
    if read is None:
        return Fields.of((*built_in, "custom"))
    picked = tuple(name for name in built_in if name in read)
    return Fields.of(picked if read <= set(built_in) else (*picked, "custom"))


def user_view(user: User) -> JsonView:
    return _whole(user, user_fields())


def channel_view(channel: Channel) -> JsonView:
    return _whole(channel, channel_fields())


def _whole(record: User | Channel, fields: Fields) -> JsonView:
    return fields.view([getattr(record, name) for name in fields.names])


def _rfc_3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
