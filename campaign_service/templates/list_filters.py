"""The filters that read lists, each charged for the items that it touches.

The items of a text are its characters, and those of an object its keys. Other values have none.
"""

from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Annotated, Any

import orjson
from jinja2 import Environment
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.filters import make_attrgetter, make_multi_attrgetter

from campaign_service.templates.budget import Budget
from campaign_service.templates.text_filters import TextFilters
from campaign_service.templates.values import (
    MISSING,
    OrderKey,
    in_lower_case,
    is_number,
    items_of,
    null_if_missing,
    order_key,
)

Path = str | int | None
_JINJAS = ("map", "reject", "rejectattr", "select", "selectattr")


def _by_problem(by: str) -> str | None:
    return None if by in ("key", "value") else "must be 'key' or 'value'"


class ListFilters:
    def __init__(self, environment: Environment, budget: Budget, texts: TextFilters) -> None:
        self._environment = environment
        self._budget = budget
        self._texts = texts
        self.by_name: dict[str, Callable[..., Any]] = {
            "count": self._length,
            "dictsort": self._dictsort,
            "first": lambda value: next(iter(self.items(value)), None),
            "items": self._pairs,
            "join": self._join,
            "last": self._last,
            "length": self._length,
            "list": lambda value: list(self.items(value)),
            "max": self._max,
            "min": self._min,
            "reverse": self._reverse,
            "sort": self._sort,
            "sum": self._sum,
            "unique": self._unique,
            **{name: self._over_items(JINJA_FILTERS[name]) for name in _JINJAS},
        }

    def items(self, value: Any) -> Any:
        found = items_of(value)
        if isinstance(found, Iterator):
            return self._budget.metered(found)
        self._budget.charge(1 + len(found))
        return found

    def looped(self, value: Any, weight: int, names: int = 1) -> Iterator[Any]:
        """Yields the items of a loop. Each is charged as many steps as its turn may take."""
        taken = self._budget.metered(items_of(value), weight)
        return taken if names == 1 else (self.unpacked(item, names) for item in taken)

    def unpacked(self, value: Any, names: int) -> tuple[Any, ...]:
        """Returns this many values; missing ones are null."""
        items = tuple(self.items(value))[:names]
        return items + (None,) * (names - len(items))

    def read(self, value: Any) -> Any:
        """Returns the value and its items, and charges for everything in it."""
        value = list(self._budget.metered(value)) if isinstance(value, Iterator) else value
        self._budget.charge_value(value)
        return value

    def _over_items(self, filter_: Callable[..., Any]) -> Callable[..., Any]:
        def filtered(context: Any, value: Any, *args: Any, **options: Any) -> Any:
            for option in (*args, *options.values()):
                self._charge_path(option)
            return filter_(context, self.items(value), *args, **options)

        filtered.jinja_pass_arg = filter_.jinja_pass_arg  # type: ignore[attr-defined]
        return filtered

    def _length(self, value: Any) -> int:
        found = items_of(value)
        if isinstance(found, Iterator):
            return sum(1 for _ in self._budget.metered(found))
        self._budget.charge(1)
        return len(found)

    def _last(self, value: Any) -> Any:
        items = list(self.items(value))
        return items[-1] if items else None

    def _reverse(self, value: Any) -> Any:
        items = self.items(value)
        return items[::-1] if isinstance(items, str) else list(items)[::-1]

    def _pairs(self, value: Any) -> Any:
        return self.items(list(value.items()) if isinstance(value, Mapping) else ())

    def _dictsort(
        self,
        value: Any,
        case_sensitive: bool = False,  # noqa: FBT001, FBT002 - as Jinja has it
        by: Annotated[str, _by_problem] = "key",
        reverse: bool = False,  # noqa: FBT001, FBT002 - as above
    ) -> list[Any]:
        items = self.read(value).items() if isinstance(value, Mapping) else ()
        part = 0 if by == "key" else 1
        plain = _same if case_sensitive else in_lower_case
        return sorted(items, key=lambda item: order_key(plain(item[part])), reverse=reverse)

    def _join(self, value: Any, separator: Any = "", attribute: Path = None) -> str:
        return self._texts.concatenated(
            self._attributes(value, attribute), self._texts.as_text(separator)
        )

    def _max(self, value: Any, case_sensitive: bool = False, attribute: Path = None) -> Any:  # noqa: FBT001, FBT002 - as Jinja has it
        return self._extreme(max, value, self._key(case_sensitive, attribute))

    def _min(self, value: Any, case_sensitive: bool = False, attribute: Path = None) -> Any:  # noqa: FBT001, FBT002 - as above
        return self._extreme(min, value, self._key(case_sensitive, attribute))

    def _extreme(
        self, choose: Callable[..., Any], value: Any, key: Callable[[Any], OrderKey]
    ) -> Any:
        keyed = [(key(item), item) for item in self.items(self.read(value))]
        present = [pair for pair in keyed if pair[0] < MISSING]
        return choose(present, key=itemgetter(0))[1] if present else None

    def _key(self, case_sensitive: bool, attribute: Path) -> Callable[[Any], OrderKey]:  # noqa: FBT001 - as above
        plain = _same if case_sensitive else in_lower_case
        getter = self._getter(attribute)
        return lambda item: order_key(plain(getter(item)))

    def _sort(
        self,
        value: Any,
        reverse: bool = False,  # noqa: FBT001, FBT002 - as Jinja has it
        case_sensitive: bool = False,  # noqa: FBT001, FBT002 - as Jinja has it
        attribute: Path = None,
    ) -> list[Any]:
        plain = _same if case_sensitive else in_lower_case
        self._charge_path(attribute)
        key = make_multi_attrgetter(
            self._environment, attribute, postprocess=lambda found: order_key(plain(found))
        )
        return sorted(self.items(self.read(value)), key=key, reverse=reverse)

    def _sum(self, value: Any, attribute: Path = None, start: float = 0) -> float:
        """Adds the numbers, and leaves out other values."""
        return sum(filter(is_number, self._attributes(value, attribute)), start)

    def _unique(
        self,
        value: Any,
        case_sensitive: bool = False,  # noqa: FBT001, FBT002 - as Jinja has it
        attribute: Path = None,
    ) -> Iterator[Any]:
        plain = _same if case_sensitive else in_lower_case
        getter = self._getter(attribute)
        seen = set()
        for item in self.items(self.read(value)):
            found = plain(getter(item))
            key = orjson.dumps(found, default=null_if_missing, option=orjson.OPT_SORT_KEYS)
            if key not in seen:
                seen.add(key)
                yield item

    def _attributes(self, value: Any, attribute: Path) -> Iterator[Any]:
        items = self.items(value)
        return iter(items) if attribute is None else map(self._getter(attribute), items)

    def _getter(self, attribute: Path) -> Callable[[Any], Any]:
        self._charge_path(attribute)
        return make_attrgetter(self._environment, attribute)

    def _charge_path(self, path: Any) -> None:
        # a path is split into its parts
        self._budget.charge(len(path) // 4 if isinstance(path, str) else 0)


def _same(value: Any) -> Any:
    return value
