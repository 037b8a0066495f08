"""The filters, tests and operators of the template language, by name."""

from collections.abc import Callable
from functools import wraps
from operator import index
from typing import Any

from jinja2 import Environment

from campaign_service.templates import grammar
from campaign_service.templates.arguments import lenient
from campaign_service.templates.budget import Budget
from campaign_service.templates.conditions import OF_CONTENT, OF_TYPES
from campaign_service.templates.list_filters import ListFilters
from campaign_service.templates.number_filters import NumberFilters
from campaign_service.templates.text_filters import TextFilters
from campaign_service.templates.values import NUMBERS, ORDERED, holds, is_missing


class Filters:
    """All filters, tests and operators, charged to one budget."""

    def __init__(self, environment: Environment, budget: Budget) -> None:
        self._budget = budget
        self.texts = TextFilters(budget)
        self._lists = ListFilters(environment, budget, self.texts)
        numbers = NumberFilters(budget)
        named = {
            "d": self._default,
            "default": self._default,
            **self.texts.by_name,
            **self._lists.by_name,
            **numbers.by_name,
        }
        of_operators: dict[str, Callable[..., Any]] = {
            grammar.LOOPED: self._lists.looped,
            grammar.UNPACKED: self._lists.unpacked,
            grammar.CONCATENATED: self.texts.concatenated,
            grammar.COMPARED: self._compared,
            grammar.SLICED: self._sliced,
            **{grammar.compared(name): self._comparison(name) for name in ORDERED},
            grammar.compared("eq"): self._equal,
            grammar.compared("ne"): lambda left, right: not self._equal(left, right),
        }
        self.filters = (
            named
            | of_operators
            | {grammar.given_data(name): lenient(filter_) for name, filter_ in named.items()}
        )
        self.tests: dict[str, Any] = {
            **OF_TYPES,
            **{name: self._charged(test) for name, test in OF_CONTENT.items()},
        }

    def _default(self, value: Any, default_value: Any = "", boolean: bool = False) -> Any:  # noqa: FBT001, FBT002 - as Jinja has it
        """Replaces a missing or null value; with `boolean`, any value that counts as false."""
        self._budget.charge(1)
        return default_value if is_missing(value) or (boolean and not value) else value

    def _comparison(self, name: str) -> Callable[[Any, Any], bool]:
        compare = ORDERED[name]
        budget = self._budget

        def compared(left: Any, right: Any) -> bool:
            if type(left) in NUMBERS and type(right) in NUMBERS:
                budget.charge(2)
            elif type(left) is str and type(right) is str:
                budget.charge_text(min(len(left), len(right)))
            else:
                budget.charge(1)
                return False
            return compare(left, right)

        return compared

    def _equal(self, left: Any, right: Any) -> bool:
        if type(left) is str and type(right) is str:
            self._budget.charge_text(len(left))
            return left == right
        return holds("eq", self._read(left), self._read(right))

    def _compared(self, left: Any, *others: Any) -> bool:
        """Compares a chain such as `1 < a <= 9`. `others` has an operator's name before each value."""
        left = self._read(left)
        rest = iter(others)
        for name, value in zip(rest, rest, strict=True):
            right = value if name in _SEARCHES and isinstance(value, dict) else self._read(value)
            if not holds(name, left, right):
                return False
            left = right
        return True

    def _read(self, value: Any) -> Any:
        return self._lists.read(value)

    def _sliced(self, value: Any, *bounds: Any) -> Any:
        self._budget.charge_text(len(value) if isinstance(value, str | list | tuple) else 0)
        try:
            return value[slice(*(None if bound is None else index(bound) for bound in bounds))]
        # the value has no items, or a bound is not a number
        except (TypeError, ValueError, LookupError):
            return None

    def _charged(self, test: Callable[..., bool]) -> Callable[..., bool]:
        @wraps(test)
        def charged(*values: Any) -> bool:
            return test(*map(self._read, values))

        return charged


# finding a key takes the same time in any object
_SEARCHES = frozenset({"in", "notin"})
