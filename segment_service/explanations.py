"""Cuts the values that a filter's clauses saw to the part that ExplainTarget shows.

A filter has up to 250 clauses, and each may have seen all members of a large channel. The limits
are so low that the values of all clauses fit into one response of 4 MiB.
"""

from collections.abc import Iterable, Sized
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from chat_store.filters.json_values import is_array, is_object
from chat_store.filters.matching import Clause
from herald.segment.v1 import segment_pb2
from herald_rpc.wire.structs import to_value

MOST_ELEMENTS = 10
MOST_CHARACTERS = 200
MOST_LEVELS = 2


@dataclass(frozen=True, slots=True)
class Shown:
    """`count` is the number of elements, keys or characters in all; 0 if none are missing here."""

    value: Any
    count: int
    cut: bool


def clauses_to_proto(clauses: Iterable[Clause]) -> list[segment_pb2.ClauseExplanation]:
    return [_clause_to_proto(clause, shown(clause.seen)) for clause in clauses]


def shown(value: Any, levels: int = MOST_LEVELS) -> Shown:
    """Returns the beginning of a value and, down to `levels`, of the values inside it."""
    if isinstance(value, datetime):
        return Shown(value.astimezone(UTC).isoformat().replace("+00:00", "Z"), 0, cut=False)
    if isinstance(value, str):
        first: Any = value[:MOST_CHARACTERS]
        return Shown(first, _count(value, first), cut=len(first) < len(value))
    most = MOST_ELEMENTS if levels else 0
    if is_object(value):
        held = {key: shown(value[key], levels - 1) for key in islice(value, most)}
        inside = list(held.values())
        first = {key: part.value for key, part in held.items()}
    elif is_array(value):
        inside = [shown(element, levels - 1) for element in value[:most]]
        first = [part.value for part in inside]
    else:
        return Shown(value, 0, cut=False)
    cut = len(first) < len(value) or any(part.cut for part in inside)
    return Shown(first, _count(value, first), cut)


def _count(whole: Sized, first: Sized) -> int:
    return len(whole) if len(first) < len(whole) else 0


def _clause_to_proto(clause: Clause, seen: Shown) -> segment_pb2.ClauseExplanation:
    return segment_pb2.ClauseExplanation(
        path=clause.path,
        held=clause.held,
        seen=None if seen.value is None else to_value(seen.value),
        seen_count=seen.count,
        seen_cut=seen.cut,
    )
