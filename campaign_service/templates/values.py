"""The values of the template language: which are missing, and how any two of them compare.

These functions never fail for data: a value that is missing or of another type does not match, and
has no items.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2.runtime import Undefined

ORDERED: Mapping[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
}
NUMBERS = frozenset({int, float})

OrderKey = tuple[int, Any]
# greater than any other key
MISSING: OrderKey = (4, 0)


def is_missing(value: Any) -> bool:
    return value is None or isinstance(value, Undefined)


def null_if_missing(value: Any) -> None:
    """Replaces missing values for `json.dumps`. Raises `TypeError` for Jinja's own, such as a loop."""
    if not is_missing(value):
        raise TypeError(f"{type(value).__name__} is not a JSON value")


def is_number(value: Any) -> bool:
    """Returns whether the value is a number; true and false are not, as in filters."""
    return type(value) in NUMBERS


def holds(name: str, left: Any, right: Any) -> bool:
    """Returns the result of a comparison, by Jinja's name of the operator."""
    if name in ORDERED:
        types = {type(left), type(right)}
        return (types <= NUMBERS or types == {str}) and ORDERED[name](left, right)
    if name in ("eq", "ne"):
        return _equal(left, right) is (name == "eq")
    return contains(right, left) is (name == "in")


def contains(container: Any, item: Any) -> bool:
    if isinstance(container, str | dict):
        return isinstance(item, str) and item in container
    return isinstance(container, list | tuple) and not is_missing(item) and item in container


def items_of(value: Any) -> Any:
    """Returns the characters of a text, the keys of an object or the items of a list."""
    return value if isinstance(value, str | list | tuple | dict | Iterator) else ()


def _equal(left: Any, right: Any) -> bool:
    if is_missing(left) or is_missing(right):
        return is_missing(left) and is_missing(right)
    return bool(left == right)


def order_key(value: Any) -> OrderKey:
    """Returns a sort key for any value: numbers, booleans, texts, others, then missing ones."""
    if is_number(value):
        return 0, value
    if isinstance(value, bool):
        return 1, value
    if isinstance(value, str):
        return 2, value
    return MISSING if is_missing(value) else (3, 0)


def in_lower_case(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value
