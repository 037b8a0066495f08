"""The filters that return a number; for other values, nothing or the default."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from campaign_service.templates.budget import Budget, BudgetExceededError
from campaign_service.templates.grammar import MAX_INTEGER_BITS
from campaign_service.templates.values import is_missing, is_number

_MAX_DIGITS = 30
_BASES = range(2, 37)
_ROUNDING: Mapping[str, Callable[[float], int] | None] = {
    "common": None,
    "ceil": math.ceil,
    "floor": math.floor,
}


def _digits_problem(digits: int) -> str | None:
    return None if abs(digits) <= _MAX_DIGITS else f"must be -{_MAX_DIGITS} to {_MAX_DIGITS}"


def _method_problem(method: str) -> str | None:
    return None if method in _ROUNDING else "must be 'common', 'ceil' or 'floor'"


def _base_problem(base: int) -> str | None:
    return None if base in _BASES or base == 0 else "must be 0 or 2 to 36"


class NumberFilters:
    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.by_name: dict[str, Callable[..., Any]] = {
            "abs": lambda value: abs(value) if is_number(value) else None,
            "float": self._float,
            "int": self._int,
            "round": _round,
        }

    def _float(self, value: Any, default: Any = 0.0) -> Any:
        self._charge(value)
        try:
            number = default if is_missing(value) else float(value)
        except (TypeError, ValueError, OverflowError):
            return default
        return default if isinstance(number, float) and not math.isfinite(number) else number

    def _int(self, value: Any, default: Any = 0, base: Annotated[int, _base_problem] = 10) -> Any:
        self._charge(value)
        number = _whole(value, base)
        if number is None:
            return default
        refuse_large(number)
        return number

    def _charge(self, value: Any) -> None:
        self._budget.charge_text(len(value) if isinstance(value, str) else 0)


def refuse_large(number: int) -> None:
    if number.bit_length() > MAX_INTEGER_BITS:
        raise BudgetExceededError(f"an integer of more than {MAX_INTEGER_BITS} bits")


def _whole(value: Any, base: int) -> int | None:
    try:
        if isinstance(value, str):
            return int(value, base)
        if isinstance(value, int | float):
            return int(value)
    except (ValueError, OverflowError):
        pass
    try:
        return int(float(value)) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _round(
    value: Any,
    precision: Annotated[int, _digits_problem] = 0,
    method: Annotated[str, _method_problem] = "common",
) -> float | None:
    if not is_number(value) or not math.isfinite(value):
        return None
    to_whole = _ROUNDING[method]
    if to_whole is None:
        rounded: float = round(value, precision)
        return rounded
    scaled = value * 10.0**precision
    return float(to_whole(scaled) / 10.0**precision) if math.isfinite(scaled) else float(value)
