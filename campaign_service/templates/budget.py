"""The budget of one render, in steps: a measure of both its time and its memory."""

from collections.abc import Iterable, Iterator
from typing import Any

from jinja2 import TemplateError

# one step is about one evaluated node, or this many characters touched
CHARACTERS_PER_STEP = 16
_MAX_STEPS = 10_000


class BudgetExceededError(TemplateError):
    """The render would take too many steps or grow too large."""


class Budget:
    """The budget of the current render. Renders don't interleave, because none of them awaits."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = 0

    def renew(self) -> None:
        """Gives the next render all of its steps."""
        self.steps = _MAX_STEPS

    def charge(self, steps: int) -> None:
        """Raises `BudgetExceededError` if fewer steps are left."""
        self.steps -= steps
        if self.steps < 0:
            raise BudgetExceededError(f"more than {_MAX_STEPS} steps")

    def charge_text(self, length: int) -> None:
        self.charge(1 + length // CHARACTERS_PER_STEP)

    def charge_value(self, value: Any) -> None:
        """Charges for everything in the value, before it is written, copied or compared."""
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
        """Yields the values, and charges for each."""
        for value in values:
            self.charge(weight)
            yield value
