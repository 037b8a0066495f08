"""Texts with placeholders, as in `'%.2f' % receiver.price` and `'%s of %s'|format(…)`."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from campaign_service.templates.values import is_number

# at most two digits of width, because padding is not charged
_PLACEHOLDER = re.compile(r"%(?:(%)|([-+ 0,]*)([0-9]{0,2})(\.[0-9]{1,2})?([sdif])|)")


def placeholders_problem(text: str, values: int) -> str | None:
    """Returns why the text can't be formatted with this number of values; None if it can."""
    found = [match for match in _PLACEHOLDER.finditer(text) if not match[1]]
    wrong = next((match for match in found if not match[5]), None)
    if wrong:
        return f"{text[wrong.start() : wrong.start() + 9]!r} begins with no known placeholder"
    if len(found) != values:
        return f"{len(found)} placeholders in {text[:40]!r} for {values} values"
    return None


def filled(text: str, values: Sequence[Any], as_text: Callable[[Any], str]) -> str:
    """Fills the placeholders. A number's placeholder is empty if its value is not a number."""
    rest = iter(values)
    return _PLACEHOLDER.sub(lambda found: _written(found, rest, as_text), text)


def _written(found: re.Match[str], rest: Iterator[Any], as_text: Callable[[Any], str]) -> str:
    percent, flags, width, precision, kind = found.groups()
    if percent or kind is None:
        return "%"
    value: Any = next(rest, None)
    if kind == "s":
        text = as_text(value)
        return _padded(text[: int(precision[1:])] if precision else text, flags, width)
    if not is_number(value) or not math.isfinite(value):
        return ""
    comma = "," if "," in flags else ""
    sign = next((flag for flag in "+ " if flag in flags), "")
    if kind == "f":
        number = format(value, f"{sign}{comma}{precision or '.6'}f")
    else:
        number = format(int(value), f"{sign}{comma}d")
    return _padded(number, flags, width)


def _padded(text: str, flags: str, width: str) -> str:
    if not width:
        return text
    if "-" in flags:
        return text.ljust(int(width))
    return text.zfill(int(width)) if "0" in flags else text.rjust(int(width))
