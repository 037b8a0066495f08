"""JSON values as the filters see them: equality, containment and the way into objects.

Unlike Python's own `==`, true is not 1. Objects are dicts, arrays lists or tuples.
"""

from collections.abc import Hashable, Sequence
from typing import Any, TypeGuard

import orjson

# beyond it a double is no exact whole number
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
    """Equal by type and value; 1 and 1.0 are the same number, the order of keys is nothing."""
    if is_object(one) and is_object(other):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if is_array(one) and is_array(other):
        return len(one) == len(other) and all(map(same, one, other))
    if is_number(one) and is_number(other):
        return one == other
    return type(one) is type(other) and bool(one == other)


def canonical(value: Any) -> str:
    """The same JSON text for all values that are the same."""
    return orjson.dumps(_in_one_form(value), option=orjson.OPT_SORT_KEYS).decode()


def identity(value: Any) -> Hashable:
    """Equal for values that are the same, and for no others: to look them up in a set."""
    if is_array(value) or is_object(value):
        return "JSON", canonical(value)
    return ("bool", value) if isinstance(value, bool) else value


def contains(held: Any, wanted: Any) -> bool:
    """What `held @> wanted` says in PostgreSQL, but for its exception for bare scalars."""
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
    """Contained in exactly what `value` is contained in, without an array's repeated elements."""
    if is_object(value):
        return {key: without_repeats(part) for key, part in value.items()}
    if is_array(value):
        return list({identity(part): part for part in map(without_repeats, value)}.values())
    return value


def value_at(document: Any, keys: Sequence[str]) -> Any:
    """What `document` has under `keys`; None where there is nothing. Never looks into arrays."""
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
    """Why `text` can't be in any stored string."""
    if "\0" in text:
        return "contains a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "contains an unpaired surrogate"
    return None
