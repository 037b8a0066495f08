"""The time of day, as a test says it is."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass
class ManualClock:
    """Stands still unless a test moves it."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
