"""The tests of the template language (`is …`): a value that is missing or of another type fails them."""

from collections.abc import Callable, Mapping
from typing import Any

from campaign_service.templates.values import contains, holds, is_missing, is_number

_COMPARISONS = {
    "eq": ("eq", "equalto", "=="),
    "ne": ("ne", "!="),
    "lt": ("lt", "lessthan", "<"),
    "lteq": ("le", "<="),
    "gt": ("gt", "greaterthan", ">"),
    "gteq": ("ge", ">="),
}


def _compares(name: str) -> Callable[[Any, Any], bool]:
    def compared(value: Any, other: Any) -> bool:
        return holds(name, value, other)

    return compared


def _in(value: Any, container: Any) -> bool:
    return contains(container, value)


def _divisible_by(value: Any, number: Any) -> bool:
    return is_number(value) and is_number(number) and number != 0 and value % number == 0


# tests that read only the type of a value
OF_TYPES: Mapping[str, Callable[..., bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "defined": lambda value: not is_missing(value),
    "false": lambda value: value is False,
    "float": lambda value: isinstance(value, float),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "iterable": lambda value: isinstance(value, str | list | tuple | dict),
    "mapping": lambda value: isinstance(value, dict),
    "none": is_missing,
    "number": is_number,
    "sequence": lambda value: isinstance(value, str | list | tuple | dict),
    "string": lambda value: isinstance(value, str),
    "true": lambda value: value is True,
    "undefined": is_missing,
    "divisibleby": _divisible_by,
    "even": lambda value: _divisible_by(value, 2),
    "odd": lambda value: is_number(value) and value % 2 == 1,
}
# tests that read everything in the values
OF_CONTENT: Mapping[str, Callable[..., bool]] = {
    "in": _in,
    "lower": lambda value: isinstance(value, str) and value.islower(),
    "upper": lambda value: isinstance(value, str) and value.isupper(),
    **{name: _compares(key) for key, names in _COMPARISONS.items() for name in names},
}
