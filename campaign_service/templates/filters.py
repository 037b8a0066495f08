"""The filters and tests of the template language, each charged for what it touches.

Values read in a text as JSON, null and missing ones as nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

import orjson
from jinja2 import Environment, pass_environment
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.filters import do_int, make_attrgetter
from jinja2.runtime import Undefined
from jinja2.tests import TESTS as JINJA_TESTS

from campaign_service.templates import grammar
from campaign_service.templates.budget import CHARACTERS_PER_STEP, Budget, BudgetExceededError
from campaign_service.templates.grammar import MAX_INTEGER_BITS

_MAX_DIGITS = 30

# an item of a text is a character
_OF_ITEMS = frozenset("items list map reject rejectattr reverse select selectattr".split())
# these take as long as all that is in the items
_COMPARING_ITEMS = frozenset("dictsort max min sort unique".split())
_OF_TEXTS = frozenset("capitalize lower title upper urlencode wordcount".split())
_COMPARING_TESTS = frozenset(
    "eq equalto ge greaterthan gt in le lessthan lower lt ne upper == != < <= > >=".split()
)


class Filters:
    """All filters and tests by name, on one budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        own: dict[str, Callable[..., Any]] = {
            "int": self._int,
            "join": self._join,
            "replace": self._replace,
            "round": _round,
            "string": self.as_text,
            "sum": self._sum,
            "tojson": self._to_json,
            "trim": self._trim,
            grammar.METERED: budget.metered,
            grammar.CONCATENATED: self._concatenated,
            grammar.COMPARED: self._compared,
            grammar.SEARCHED: self._searched,
            grammar.SLICED: self._sliced,
        }
        jinjas = {name: JINJA_FILTERS[name] for name in grammar.FILTERS - set(own)}
        self.filters = own | {name: self._charged(name, f) for name, f in jinjas.items()}
        tests: Mapping[str, Any] = JINJA_TESTS
        self.tests: dict[str, Any] = {
            name: self._charged_test(tests[name]) if name in _COMPARING_TESTS else tests[name]
            for name in grammar.TESTS
        }

    def output(self, value: Any) -> str:
        # the one thing that every render does: spelled out, for speed
        if type(value) is not str:
            return self.as_text(value)
        budget = self._budget
        budget.steps -= 1 + len(value) // CHARACTERS_PER_STEP
        if budget.steps < 0:
            budget.charge(0)
        return value

    def as_text(self, value: Any) -> str:
        if isinstance(value, dict | list | tuple | Iterator):
            return self._to_json(value)
        text = "" if value is None else str(value)
        self._budget.charge_text(len(text))
        return text

    def _to_json(self, value: Any) -> str:
        # charged before it is written: a few lists can hold the same large value many times
        written = self._compared(value)
        return orjson.dumps(None if isinstance(written, Undefined) else written).decode()

    def _charged(self, name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
        taken = self._taken_by(name)
        # a filter that wants the environment or a context gets it before the value
        place = 1 if hasattr(filter_, "jinja_pass_arg") else 0

        @wraps(filter_)
        def charged(*args: Any, **options: Any) -> Any:
            for option in (*args[place + 1 :], *options.values()):
                # a path in it is taken apart
                self._budget.charge(len(option) // 4 if isinstance(option, str) else 0)
            return filter_(*args[:place], taken(args[place]), *args[place + 1 :], **options)

        return charged

    def _taken_by(self, name: str) -> Callable[[Any], Any]:
        if name in _OF_TEXTS:
            return self._words if name in ("title", "wordcount") else self.as_text
        if name in _COMPARING_ITEMS:
            return self._compared_items
        return self._items if name in _OF_ITEMS else self._one

    def _one(self, value: Any) -> Any:
        self._budget.charge_text(len(value) if isinstance(value, str) else 0)
        return self._budget.metered(value) if isinstance(value, Iterator) else value

    def _items(self, values: Any) -> Any:
        if isinstance(values, Iterator):
            return self._budget.metered(values)
        self._budget.charge(1)
        if isinstance(values, str | dict | list | tuple):
            self._budget.charge(len(values))
        return values

    def _compared_items(self, values: Any) -> Any:
        return self._items(self._compared(values))

    def _compared(self, value: Any) -> Any:
        value = list(self._budget.metered(value)) if isinstance(value, Iterator) else value
        self._budget.charge_value(value)
        return value

    def _searched(self, value: Any) -> Any:
        if isinstance(value, dict):
            self._budget.charge(1)
            return value
        return self._compared(value)

    def _sliced(self, value: Any) -> Any:
        self._budget.charge_text(len(value) if isinstance(value, str | list | tuple) else 0)
        return value

    def _charged_test(self, test: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(test)
        def charged(*values: Any) -> Any:
            return test(*map(self._compared, values))

        return charged

    def _words(self, value: Any) -> str:
        text = self.as_text(value)
        # the shortest words take as long as so many characters
        self._budget.charge(len(text) // 4)
        return text

    def _int(self, value: Any, default: Any = 0, base: int = 10) -> Any:
        self._one(value)
        number = do_int(value, default, base)
        if isinstance(number, int):
            refuse_large(number)
        return number

    @pass_environment
    def _join(
        self,
        environment: Environment,
        values: Iterable[Any],
        separator: Any = "",
        attribute: str | int | None = None,
    ) -> str:
        items = self._attributes(environment, values, attribute)
        return self._concatenated(items, self.as_text(separator))

    def _concatenated(self, values: Iterable[Any], separator: str = "") -> str:
        texts = []
        for value in values:
            self._budget.charge_text(len(separator))
            texts.append(self.as_text(value))
        return separator.join(texts)

    def _replace(self, value: Any, old: Any, new: Any, count: int | None = None) -> str:
        text, old_text, new_text = map(self.as_text, (value, old, new))
        self._budget.charge_text(text.count(old_text) * len(new_text))
        return text.replace(old_text, new_text, -1 if count is None else count)

    @pass_environment
    def _sum(
        self,
        environment: Environment,
        values: Iterable[Any],
        attribute: str | int | None = None,
        start: float = 0,
    ) -> float:
        items = self._attributes(environment, values, attribute)
        return sum(map(_number, items), _number(start))

    def _attributes(
        self, environment: Environment, values: Iterable[Any], attribute: str | int | None
    ) -> Iterator[Any]:
        self._budget.charge(len(attribute) if isinstance(attribute, str) else 0)
        return map(make_attrgetter(environment, attribute), self._items(values))

    def _trim(self, value: Any, characters: str | None = None) -> str:
        text = self.as_text(value)
        if characters is not None:
            self._budget.charge_text(len(text) * len(characters))
        return text.strip(characters)


def refuse_large(number: int) -> None:
    if number.bit_length() > MAX_INTEGER_BITS:
        raise BudgetExceededError(f"an integer of more than {MAX_INTEGER_BITS} bits")


def _number(value: Any) -> float:
    # texts and lists would grow, and be copied each time
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return value


def _round(value: float, precision: int = 0) -> float:
    # of an integer, Python would work out ten to the power of any precision
    if not -_MAX_DIGITS <= precision <= _MAX_DIGITS:
        raise BudgetExceededError(f"rounding to more than {_MAX_DIGITS} digits")
    return round(value, precision)
