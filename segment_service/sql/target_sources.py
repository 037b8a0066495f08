"""The sources of segments' targets in SQL, each read by an index range."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    case,
    false,
    null,
    or_,
    select,
    true,
    union,
)

from chat_store.database.engine import DialectName
from chat_store.sql import users as sql_users
from chat_store.sql.filters import CHANNEL_BINDING, USER_BINDING, Binding, where
from chat_store.sql.tables import channels, members, users
from segment_service.segments import Definition, Segment, SegmentType
from segment_service.sql.tables import segment_targets

_EVALUATED = {Definition.FILTER, Definition.ALL_USERS}


@dataclass(frozen=True, slots=True)
class TargetSource:
    """`rows` selects ids from `column`, the key of an index by which `rows` can be ranged over."""

    column: ColumnElement[str]
    rows: Select[Any]
    added_at: ColumnElement[Any]


def target_sources(
    segments: Sequence[Segment], sender_id: str, dialect: DialectName
) -> list[TargetSource]:
    """Returns a source for each list, and one for all definitions evaluated on the same table."""
    sources = [_list(segment) for segment in segments if segment.definition is Definition.LIST]
    evaluated = [segment for segment in segments if segment.definition in _EVALUATED]
    if evaluated:
        of_users = evaluated[0].spec.type is SegmentType.USER
        sources.append((_users if of_users else _channels)(evaluated, dialect))
    if any(segment.definition is Definition.ALL_SENDER_CHANNELS for segment in segments):
        sources.append(_channels_of(sender_id))
    return sources


def _list(segment: Segment) -> TargetSource:
    column = segment_targets.c.target_id
    rows = select(column).where(segment_targets.c.segment_id == segment.id)
    return TargetSource(column, rows, segment_targets.c.created_at)


def _users(evaluated: Sequence[Segment], dialect: DialectName) -> TargetSource:
    matching = _matching_any(evaluated, USER_BINDING, dialect)
    rows = select(users.c.id).where(sql_users.reachable(), matching)
    return TargetSource(users.c.id, rows, null())


def _channels(evaluated: Sequence[Segment], dialect: DialectName) -> TargetSource:
    matching = _matching_any(evaluated, CHANNEL_BINDING, dialect)
    rows = select(channels.c.cid).where(channels.c.deleted_at.is_(None), matching)
    return TargetSource(channels.c.cid, rows, null())


def _channels_of(sender_id: str) -> TargetSource:
    # looked up channel by channel: in a join, PostgreSQL may read the whole other table first
    is_there = select(channels.c.deleted_at.is_(None)).where(channels.c.cid == members.c.cid)
    rows = select(members.c.cid).where(members.c.user_id == sender_id, is_there.scalar_subquery())
    return TargetSource(members.c.cid, rows, null())


def _matching_any(
    evaluated: Sequence[Segment], binding: Binding, dialect: DialectName
) -> ColumnElement[bool]:
    if any(segment.definition is Definition.ALL_USERS for segment in evaluated):
        return true()
    holds = [where(segment.predicate(), binding, dialect) for segment in evaluated]
    if dialect == "sqlite" and len(holds) > 1:
        # a chain of ORs over large filters would exceed SQLite's expression depth
        return case(*((holding, true()) for holding in holds), else_=false())
    return or_(*holds)


def union_of(branches: Sequence[Select[Any]]) -> CompoundSelect[Any]:
    """Selects each target once."""
    return union(*(select(source.subquery().c[0]) for source in branches))
