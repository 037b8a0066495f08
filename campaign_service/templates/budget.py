"""What one render may cost: steps, as a measure of both its time and its memory."""

from collections.abc import Iterable, Iterator
from typing import Any

from jinja2 import TemplateError

# one step is about one evaluated node, or this many characters touched
CHARACTERS_PER_STEP = 16
_MAX_STEPS = 10_000


class BudgetExceededError(TemplateError):
    """The render would take too many steps or grow too large."""


class Budget:
    """Of the render under way. Renders don't interleave: none of them awaits."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = 0

    def renew(self) -> None:
        """Gives the next render all of its steps."""
        self.steps = _MAX_STEPS

    def charge(self, steps: int) -> None:
        """Raises `BudgetExceededError` when there are not that many left."""
        self.steps -= steps
        if self.steps < 0:
            raise BudgetExceededError(f"more than {_MAX_STEPS} steps")

    def charge_text(self, length: int) -> None:
        self.charge(1 + length // CHARACTERS_PER_STEP)

    def charge_value(self, value: Any) -> None:
        """For all that is in it: to be paid before a value is written, copied or compared."""
        if isinstance(value, str):
            self.charge_text(len(value))
            return
        self.charge(1)
        if isinstance(value, dict):
            for key, item in value.items():
                self.charge_value(key)
                self.charge_value(item)
        elif isinstance(value, list | tuple):
            for item in value:
                self.charge_value(item)

    def metered(self, values: Iterable[Any], weight: int = 1) -> Iterator[Any]:
        """The values, each charged when it is taken."""
        for value in values:
            self.charge(weight)
            yield value
