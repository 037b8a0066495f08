"""A filter as a tree of typed conditions: the one thing that SQL and the matcher both read.

Every test is two-valued on every record, so negation is plain negation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from chat_store.filters.fields import Field


class Order(StrEnum):
    GREATER = "$gt"
    GREATER_OR_EQUAL = "$gte"
    LESS = "$lt"
    LESS_OR_EQUAL = "$lte"


@dataclass(frozen=True, slots=True)
class Present:
    """There is a value: not missing, not null; for a built-in array field: not empty."""


@dataclass(frozen=True, slots=True)
class EqualTo:
    """The same value and type; a scalar is also equal to an array that has it as an element.

    `value` is never None. A frozenset is equal to an array of exactly these, in any order.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class OneOf:
    """Equal to one of `values`, or an array that overlaps them.

    `values` has no None, and none twice.
    """

    values: tuple[Any, ...]
    or_missing: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """Of the same type as `value` and on that side of it; strings bytewise."""

    order: Order
    value: str | int | float | datetime


@dataclass(frozen=True, slots=True)
class Containing:
    """JSON containment, recursive.

    In an array, a scalar or an object is looked for among the elements, an array as a subset. No
    array in `value` has an element twice.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class StartsWord:
    """A string, or an array with a string, that has `text` where a word begins, in any case."""

    text: str


@dataclass(frozen=True, slots=True)
class Includes:
    """A string, or an array with a string, that has `text` anywhere, in any case."""

    text: str


Test = Present | EqualTo | OneOf | Compared | Containing | StartsWord | Includes


@dataclass(frozen=True, slots=True)
class Condition:
    """One clause of a filter; `path` is where it was written (`filter.$and[1].age.$in`)."""

    path: str
    field: Field
    test: Test
    negated: bool = False


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds without parts."""

    path: str
    parts: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    path: str
    parts: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    path: str
    parts: tuple["Predicate", ...]


Predicate = AllOf | AnyOf | NoneOf | Condition

EVERYTHING = AllOf("filter", ())


def conditions(predicate: Predicate) -> Iterator[Condition]:
    """In written order."""
    if isinstance(predicate, Condition):
        yield predicate
    else:
        for part in predicate.parts:
            yield from conditions(part)
