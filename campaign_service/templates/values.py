"""The values of the template language: which are missing, and how any two of them compare.

Nothing here fails: a value that is missing or of another type does not match, and holds no items.
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
# the greatest of all
MISSING: OrderKey = (4, 0)


def is_missing(value: Any) -> bool:
    return value is None or isinstance(value, Undefined)


def null_if_missing(value: Any) -> None:
    """For writing JSON. Raises `TypeError` for what only Jinja knows, such as a loop."""
    if not is_missing(value):
        raise TypeError(f"{type(value).__name__} is no JSON")


def is_number(value: Any) -> bool:
    """True and false are no numbers, as in filters."""
    return type(value) in NUMBERS


def holds(name: str, left: Any, right: Any) -> bool:
    """Whether the comparison with this name, which is Jinja's, is true of the two values."""
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
    """The characters of a text, the keys of an object, the items of a list; else nothing."""
    return value if isinstance(value, str | list | tuple | dict | Iterator) else ()


def _equal(left: Any, right: Any) -> bool:
    if is_missing(left) or is_missing(right):
        return is_missing(left) and is_missing(right)
    return bool(left == right)


def order_key(value: Any) -> OrderKey:
    """Sorts values of any types: numbers, booleans, texts, then the others; missing ones last."""
    if is_number(value):
        return 0, value
    if isinstance(value, bool):
        return 1, value
    if isinstance(value, str):
        return 2, value
    return MISSING if is_missing(value) else (3, 0)


def in_lower_case(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value
