"""A filter as a tree of typed conditions, which both SQL and the matcher read.

Every test is either true or false on a record, so negation is plain negation.
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
    """The value exists: not missing, not null; a built-in array is not empty."""


@dataclass(frozen=True, slots=True)
class EqualTo:
    """Has the same value and type. A scalar also equals an array that has it as an element.

    `value` is never None. A frozenset equals an array of exactly these elements, in any order.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class OneOf:
    """Equals one of `values`, or is an array that overlaps them.

    `values` contains no None and no value twice.
    """

    values: tuple[Any, ...]
    or_missing: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """Has the type of `value` and is on that side of it. Strings compare bytewise."""

    order: Order
    value: str | int | float | datetime


@dataclass(frozen=True, slots=True)
class Containing:
    """Contains `value` as JSON, recursively.

    An array contains a scalar or an object as an element, and another array as a subset. No array
    in `value` has an element twice.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class StartsWord:
    """Is a string, or an array with a string, that has `text` where a word begins, in any case."""

    text: str


@dataclass(frozen=True, slots=True)
class Includes:
    """Is a string, or an array with a string, that has `text` anywhere, in any case."""

    text: str


Test = Present | EqualTo | OneOf | Compared | Containing | StartsWord | Includes


@dataclass(frozen=True, slots=True)
class Condition:
    """One clause of a filter. `path` is where it is written (`filter.$and[1].age.$in`)."""

    path: str
    field: Field
    test: Test
    negated: bool = False


@dataclass(frozen=True, slots=True)
class AllOf:
    """All parts hold; true if there are none."""

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
    """Yields all conditions in written order."""
    if isinstance(predicate, Condition):
        yield predicate
    else:
        for part in predicate.parts:
            yield from conditions(part)
