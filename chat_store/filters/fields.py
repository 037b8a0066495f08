"""The fields by which users and channels can be filtered and sorted, and their kinds."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from chat_store.filters.json_values import text_problem
from chat_store.models import MAX_CUSTOM_BYTES

MAX_FIELD_DEPTH = 20


class Kind(StrEnum):
    STRING = "string"
    STRINGS = "strings"  # an array: order counts when compared with an array
    STRING_SET = "string_set"  # many values without an order
    BOOL = "bool"
    DATE = "date"
    NUMBER = "number"
    CUSTOM = "custom"  # any JSON


class FieldNameError(ValueError):
    """There is no such field. The text says why, without the name's path."""


@dataclass(frozen=True, slots=True)
class Field:
    """A name that a filter may use.

    `alias_of`: a condition on this field holds if it holds on any of these fields.
    `words`: the only values of a built-in enumeration; none for any other field.
    """

    name: str
    kind: Kind
    alias_of: tuple["Field", ...] = ()
    words: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The path into the custom object, for a custom field."""
        return tuple(self.name.split("."))

    @property
    def sortable(self) -> bool:
        """Whether a record may have one scalar here, as custom fields may."""
        return not self.alias_of and self.kind not in {Kind.STRINGS, Kind.STRING_SET}


class Catalogue:
    """The fields of one kind of record.

    With `allow_custom`, every other name is a custom field, whose dots reach into objects. Names of
    `of_viewers` are not: in a chat's own filters their meaning depends on who asks, and as custom
    fields they would match nobody without a word.
    """

    def __init__(
        self, fields: Sequence[Field], *, allow_custom: bool, of_viewers: Sequence[str] = ()
    ) -> None:
        self.allow_custom = allow_custom
        self.of_viewers = tuple(of_viewers)
        self._fields = {field.name: field for field in fields}

    def find(self, name: str) -> Field:
        """Returns the field of the name. Raises `FieldNameError` if there can't be one."""
        field = self._fields.get(name)
        if field is not None:
            return field
        if not self.allow_custom:
            raise FieldNameError(f"unknown field; the fields are {', '.join(self._fields)}")
        if name in self.of_viewers:
            raise FieldNameError(f"{name} depends on who asks: no filter can know it")
        custom = Field(name, Kind.CUSTOM)
        if problem := text_problem(name):
            raise FieldNameError(problem)
        if not all(custom.keys):
            raise FieldNameError("a field's name has no empty part")
        if len(custom.keys) > MAX_FIELD_DEPTH:
            raise FieldNameError(f"a field's name has at most {MAX_FIELD_DEPTH} parts")
        if len(name.encode()) > MAX_CUSTOM_BYTES:
            # no custom object can hold a longer one, and paths occur in responses and errors
            raise FieldNameError(f"a field's name has at most {MAX_CUSTOM_BYTES} bytes")
        return custom


def _fields(kind: Kind, *names: str) -> tuple[Field, ...]:
    return tuple(Field(name, kind) for name in names)


_TEAMS = Field("teams", Kind.STRINGS)

USER_FIELDS = Catalogue(
    (
        *_fields(Kind.STRING, "id", "name", "username", "email", "role", "language"),
        _TEAMS,
        Field("team", Kind.STRINGS, alias_of=(_TEAMS, Field("team", Kind.CUSTOM))),
        *_fields(Kind.BOOL, "banned", "shadow_banned"),
        *_fields(Kind.DATE, "created_at", "updated_at", "last_active"),
    ),
    allow_custom=True,
    of_viewers=("online", "invisible"),
)

CHANNEL_FIELDS = Catalogue(
    (
        *_fields(Kind.STRING, "cid", "id", "type", "team", "name", "created_by_id"),
        *_fields(Kind.STRING_SET, "members", "member.user.name"),
        *_fields(Kind.STRINGS, "filter_tags"),
        *_fields(Kind.DATE, "created_at", "updated_at", "last_message_at", "last_updated"),
        *_fields(Kind.NUMBER, "member_count", "message_count"),
        *_fields(Kind.BOOL, "frozen", "disabled", "distinct"),
    ),
    allow_custom=True,
    of_viewers=("hidden", "joined", "muted", "archived", "pinned", "has_unread"),
)
