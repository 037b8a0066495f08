"""JSON values as the filters see them: equality, containment and paths into objects.

Unlike with Python's `==`, true is not 1. Objects are dicts, arrays are lists or tuples.
"""

from collections.abc import Hashable, Sequence
from typing import Any, TypeGuard

import orjson

# beyond it, doubles are not exact whole numbers
_LARGEST_WHOLE = 2**53


def is_array(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_scalar(value: Any) -> bool:
    return not is_array(value) and not is_object(value)


def same(one: Any, other: Any) -> bool:
    """Returns whether type and value are equal. 1 equals 1.0; the order of keys does not matter."""
    if is_object(one) and is_object(other):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if is_array(one) and is_array(other):
        return len(one) == len(other) and all(map(same, one, other))
    if is_number(one) and is_number(other):
        return one == other
    return type(one) is type(other) and bool(one == other)


def canonical(value: Any) -> str:
    """Returns one JSON text for all values that are the same."""
    return orjson.dumps(_in_one_form(value), option=orjson.OPT_SORT_KEYS).decode()


def identity(value: Any) -> Hashable:
    """Returns a key for sets, equal for exactly the values that are the same."""
    if is_array(value) or is_object(value):
        return "JSON", canonical(value)
    return ("bool", value) if isinstance(value, bool) else value


def contains(held: Any, wanted: Any) -> bool:
    """Returns `held @> wanted` as in PostgreSQL, except for its special case of bare scalars."""
    if is_object(held) and is_object(wanted):
        return all(key in held and contains(held[key], wanted[key]) for key in wanted)
    if is_array(held) and is_array(wanted):
        scalars = {identity(element) for element in held if is_scalar(element)}
        others = [element for element in held if not is_scalar(element)]
        return all(
            identity(part) in scalars
            if is_scalar(part)
            else any(contains(element, part) for element in others)
            for part in wanted
        )
    return is_scalar(held) and same(held, wanted)


def without_repeats(value: Any) -> Any:
    """Returns `value` without arrays' repeated elements; containment in others stays the same."""
    if is_object(value):
        return {key: without_repeats(part) for key, part in value.items()}
    if is_array(value):
        return list({identity(part): part for part in map(without_repeats, value)}.values())
    return value


def value_at(document: Any, keys: Sequence[str]) -> Any:
    """Returns the document's value under `keys`, or None. Never looks into arrays."""
    for key in keys:
        if not is_object(document):
            return None
        document = document.get(key)
    return document


def _in_one_form(value: Any) -> Any:
    if is_object(value):
        return {key: _in_one_form(part) for key, part in value.items()}
    if is_array(value):
        return list(map(_in_one_form, value))
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_WHOLE:
        return int(value)
    return value


def text_problem(text: str) -> str | None:
    """Returns why `text` can't occur in a stored string, or None."""
    if "\0" in text:
        return "contains a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "contains an unpaired surrogate"
    return None
