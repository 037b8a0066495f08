"""JSON values as the filters see them: equality, containment and the way into objects.

Unlike Python's own `==`, true is not 1. Objects are dicts, arrays lists or tuples.
"""

from collections.abc import Sequence
from typing import Any, TypeGuard


def is_array(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_scalar(value: Any) -> bool:
    return not is_array(value) and not is_object(value)


def same(one: Any, other: Any) -> bool:
    """Equal by type and value; 1 and 1.0 are the same number, the order of keys is nothing."""
    if is_object(one) and is_object(other):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if is_array(one) and is_array(other):
        return len(one) == len(other) and all(map(same, one, other))
    if is_number(one) and is_number(other):
        return one == other
    return type(one) is type(other) and bool(one == other)


def contains(held: Any, wanted: Any) -> bool:
    """What `held @> wanted` says in PostgreSQL, but for its exception for bare scalars."""
    if is_object(held) and is_object(wanted):
        return all(key in held and contains(held[key], wanted[key]) for key in wanted)
    if is_array(held) and is_array(wanted):
        return all(any(contains(element, part) for element in held) for part in wanted)
    return is_scalar(held) and same(held, wanted)


def value_at(document: Any, keys: Sequence[str]) -> Any:
    """What `document` has under `keys`; None where there is nothing. Never looks into arrays."""
    for key in keys:
        if not is_object(document):
            return None
        document = document.get(key)
    return document


def text_problem(text: str) -> str | None:
    """Why `text` can't be in any stored string."""
    if "\0" in text:
        return "contains a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "contains an unpaired surrogate"
    return None
