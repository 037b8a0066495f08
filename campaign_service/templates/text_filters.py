"""The filters that return a text, each charged for the values that it reads."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import orjson
from jinja2.filters import do_capitalize, do_title, do_urlencode, do_wordcount

from campaign_service.templates import dates
from campaign_service.templates.budget import CHARACTERS_PER_STEP, Budget
from campaign_service.templates.placeholders import filled
from campaign_service.templates.values import null_if_missing

_ZONE_STEPS = 10


def _empty_problem(text: str) -> str | None:
    return None if text else "is empty"


def _negative_problem(number: int) -> str | None:
    return "is negative" if number < 0 else None


class TextFilters:
    """Writes values as JSON; null and missing ones are empty."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.by_name: dict[str, Callable[..., Any]] = {
            "capitalize": lambda value: do_capitalize(self.as_text(value)),
            "date": self._date,
            "format": self.format,
            "lower": lambda value: self.as_text(value).lower(),
            "replace": self._replace,
            "split": self._split,
            "string": self.as_text,
            "title": lambda value: do_title(self._words(value)),
            "tojson": self.to_json,
            "trim": self._trim,
            "truncate": self._truncate,
            "upper": lambda value: self.as_text(value).upper(),
            "urlencode": lambda value: do_urlencode(self.as_text(value)),
            "wordcount": lambda value: do_wordcount(self._words(value)),
        }

    def output(self, value: Any) -> str:
        # every render calls this for every value, so the usual types come first, without a call
        if type(value) is not str:
            return self.as_text(value)
        budget = self._budget
        budget.steps -= 1 + len(value) // CHARACTERS_PER_STEP
        if budget.steps < 0:
            budget.charge(0)
        return value

    def as_text(self, value: Any) -> str:
        if isinstance(value, dict | list | tuple | Iterator):
            return self.to_json(value)
        text = "" if value is None else str(value)
        self._budget.charge_text(len(text))
        return text

    def to_json(self, value: Any) -> str:
        # charged before it is written, because a few lists can hold one large value many times
        items = list(self._budget.metered(value)) if isinstance(value, Iterator) else value
        self._budget.charge_value(items)
        return orjson.dumps(items, default=null_if_missing).decode()

    def format(self, value: Any, *values: Any) -> str:
        text = self.as_text(value)
        return filled(text, values, self.as_text)

    def concatenated(self, values: Any, separator: str = "") -> str:
        texts = []
        for value in values:
            self._budget.charge_text(len(separator))
            texts.append(self.as_text(value))
        return separator.join(texts)

    def _date(
        self,
        value: Any,
        format: Annotated[str, dates.format_problem] = dates.DEFAULT_FORMAT,  # noqa: A002 - its name
        zone: Annotated[str, dates.zone_problem] = "UTC",
    ) -> str | None:
        self._budget.charge(_ZONE_STEPS)
        self._budget.charge_text(len(format))
        return dates.written(value, format, zone)

    def _replace(self, value: Any, old: Any, new: Any, count: int = -1) -> str:
        text, old_text, new_text = map(self.as_text, (value, old, new))
        self._budget.charge_text(text.count(old_text) * len(new_text))
        return text.replace(old_text, new_text, count)

    def _split(
        self, value: Any, separator: Annotated[str | None, _empty_problem] = None
    ) -> list[str]:
        text = self.as_text(value)
        parts = text.split(separator)
        self._budget.charge(len(parts))
        return parts

    def _trim(self, value: Any, characters: str | None = None) -> str:
        text = self.as_text(value)
        if characters is not None:
            self._budget.charge_text(len(text) * len(characters))
        return text.strip(characters)

    def _truncate(
        self,
        value: Any,
        length: Annotated[int, _negative_problem] = 255,
        killwords: bool = False,  # noqa: FBT001, FBT002 - as Jinja has it
        end: str = "...",
        leeway: Annotated[int, _negative_problem] = 0,
    ) -> str:
        """Cuts the text to `length` characters, unless it has at most `leeway` more."""
        text = self.as_text(value)
        if len(text) <= length + leeway:
            return text
        kept = text[: max(0, length - len(end))]
        if not killwords:
            kept = kept.rsplit(" ", 1)[0]
        return kept + end[:length]

    def _words(self, value: Any) -> str:
        text = self.as_text(value)
        # counting the shortest words, a character and a space each, takes a step for two of them
        self._budget.charge(len(text) // 4)
        return text
