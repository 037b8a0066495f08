"""Segments, and the rules of their changes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

import orjson

from chat_store.errors import InvalidFilterError, InvalidInputError
from chat_store.filters.fields import CHANNEL_FIELDS, USER_FIELDS
from chat_store.filters.parsing import json_size, parse_filter
from chat_store.filters.predicates import Predicate
from chat_store.ids import cid_problem, user_target_problem
from chat_store.models import Json
from chat_store.worker_thread import SHORT_BYTES
from segment_service.errors import (
    SegmentDeletedError,
    SegmentFilterRefusedError,
    SegmentHasDefinitionError,
    SegmentNotFoundError,
    SegmentTypesMixedError,
    SenderRequiredError,
)

_CLOCK_STEP = timedelta(microseconds=1)


class SegmentType(StrEnum):
    USER = "user"
    CHANNEL = "channel"


class Definition(StrEnum):
    """Where the targets come from."""

    LIST = "list"
    FILTER = "filter"
    ALL_USERS = "all_users"
    ALL_SENDER_CHANNELS = "all_sender_channels"


_ONLY_FOR = {
    Definition.ALL_USERS: SegmentType.USER,
    Definition.ALL_SENDER_CHANNELS: SegmentType.CHANNEL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSpec:
    """The part of a segment that callers write. `filter` is set only for Definition.FILTER."""

    type: SegmentType
    name: str = ""
    description: str = ""
    definition: Definition = Definition.LIST
    filter: Json | None = None

    def predicate(self) -> Predicate:
        """Returns the parsed filter.

        Raises `InvalidFilterError`, and ValueError if the segment has no filter.
        """
        if self.filter is None:
            raise ValueError(f"a segment of {self.definition} has no filter")
        if not self.filter:
            raise InvalidFilterError("filter", "must not be empty")
        of_users = self.type is SegmentType.USER
        return parse_filter(self.filter, USER_FIELDS if of_users else CHANNEL_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment as stored; a deleted one is kept, marked by `deleted_at`."""

    id: str
    spec: SegmentSpec
    size: int
    size_updated_at: datetime | None
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    deleted_at: datetime | None

    @property
    def definition(self) -> Definition:
        return self.spec.definition

    def predicate(self) -> Predicate:
        """Returns the parsed filter. Raises `SegmentFilterRefusedError` if it is not valid now."""
        try:
            return self.spec.predicate()
        except InvalidFilterError as error:
            raise SegmentFilterRefusedError(self.id, error.field, error.problem) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An update: the fields named in `fields` take the values given here.

    `type` and `definition` never change; if set, they are what the caller assumes the segment has.
    """

    fields: frozenset[Literal["name", "description", "filter"]]
    name: str = ""
    description: str = ""
    filter: Json | None = None
    type: SegmentType | None = None
    definition: Definition | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """The targets whose id hashes to `index` when all are spread over `count` shards."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Target:
    """`created_at` is set only for targets of a list."""

    id: str
    created_at: datetime | None = None


def has_large_filter(of: Iterable[Segment]) -> bool:
    """Returns whether work on the segments' filters takes long."""
    return sum(json_size(segment.spec.filter or {}) for segment in of) > SHORT_BYTES


def check(spec: SegmentSpec) -> None:
    """Raises if the definition does not fit the type, or if the filter is invalid."""
    only_for = _ONLY_FOR.get(spec.definition, spec.type)
    if only_for is not spec.type:
        raise InvalidInputError(
            f"segment.{spec.definition}", f"is only for segments of type {only_for}"
        )
    if spec.definition is Definition.FILTER:
        spec.predicate()


def is_same(one: SegmentSpec, other: SegmentSpec) -> bool:
    """Returns whether the content is equal; the order of keys in filters does not matter."""
    return replace(one, filter=None) == replace(other, filter=None) and same_filter(one, other)


def same_filter(one: SegmentSpec, other: SegmentSpec) -> bool:
    # compared as texts: walking through large filters would hold up all other calls
    return _text(one.filter) == _text(other.filter)


def _text(filter_: Json | None) -> bytes:
    return orjson.dumps(filter_, option=orjson.OPT_SORT_KEYS)


def changed(spec: SegmentSpec, change: Change) -> SegmentSpec:
    """Returns the content after the change, not yet checked. Raises if a field may not change."""
    if change.type not in {None, spec.type}:
        raise InvalidInputError("segment.type", "never changes")
    if change.definition not in {None, spec.definition}:
        raise InvalidInputError(
            f"segment.{change.definition}", "is not the definition of the segment"
        )
    new_values: dict[str, Any] = {name: getattr(change, name) for name in change.fields}
    if (new_values.get("filter", spec.filter) is None) != (spec.filter is None):
        raise InvalidInputError("segment.filter", "can't be added to a segment or removed from it")
    return replace(spec, **new_values)


def later(now: datetime, than: datetime | None) -> datetime:
    """Returns `now`, or 1 µs after `than` if the clock stands still or went back."""
    return now if than is None else max(now, than + _CLOCK_STEP)


def check_listing(segment: Segment) -> None:
    """Raises unless targets can be added to the segment and removed from it."""
    if segment.deleted_at:
        raise SegmentDeletedError(segment.id)
    if segment.definition is not Definition.LIST:
        raise SegmentHasDefinitionError(segment.id, segment.definition)


def check_targets(segment: Segment, target_ids: Iterable[str]) -> None:
    """Raises for an id that can't be a target of the segment's type."""
    problem_of = user_target_problem if segment.spec.type is SegmentType.USER else cid_problem
    for index, target_id in enumerate(target_ids):
        if problem := problem_of(target_id):
            raise InvalidInputError(f"target_ids[{index}]", problem)


def audience(
    ids: Sequence[str], found: Mapping[str, Segment], sender_id: str
) -> tuple[Segment, ...]:
    """Returns the segments to query together, each once. Raises for the first that is unusable."""
    unique = tuple(dict.fromkeys(ids))
    for id_ in unique:
        if id_ not in found:
            raise SegmentNotFoundError(id_)
    segments = tuple(found[id_] for id_ in unique)
    for segment in segments:
        if segment.deleted_at:
            raise SegmentDeletedError(segment.id)
    for segment in segments:
        if segment.spec.type is not segments[0].spec.type:
            raise SegmentTypesMixedError(segment.id)
    for segment in segments:
        if segment.definition is Definition.ALL_SENDER_CHANNELS and not sender_id:
            raise SenderRequiredError(segment.id)
    return segments
