"""Failpoints around every durable step, at which tests can kill this process.

`HERALD_CRASH_AT=run.page:before-commit:3` kills it with SIGKILL when it reaches that point for
the third time. Without the variable, nothing happens here.
"""

import os
import signal
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from itertools import count

VARIABLE = "HERALD_CRASH_AT"


class Point(StrEnum):
    """A point in a step's transaction."""

    BEGUN = "begun"
    BEFORE_COMMIT = "before-commit"
    AFTER_COMMIT = "after-commit"


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """The `at`-th time, counted from 1, that a process reaches a point of a step."""

    step: str
    point: Point
    at: int = 1
    _hits: "count[int]" = field(default_factory=lambda: count(1), compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> "CrashPoint":
        """Reads `step:point:number`. Raises ValueError for anything else."""
        step, point, at = text.split(":")
        return cls(step, Point(point), int(at))

    def __str__(self) -> str:
        return f"{self.step}:{self.point}:{self.at}"

    def is_reached(self, step: str, point: Point) -> bool:
        """Counts the visit. Returns whether the process has now reached this crash point."""
        return self.step == step and self.point is point and next(self._hits) == self.at


def hit(step: str, point: Point) -> None:
    """Kills the process if this is the chosen crash point."""
    chosen = _chosen()
    if chosen is not None and chosen.is_reached(step, point):
        os.write(2, f"{VARIABLE}: killed at {chosen}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


@cache
def _chosen() -> CrashPoint | None:
    text = os.environ.get(VARIABLE)
    return CrashPoint.parse(text) if text else None
