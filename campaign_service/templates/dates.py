"""Dates and times in templates: read from texts, written in a format and a zone."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DEFAULT_FORMAT = "%Y-%m-%d"
_LONGEST = 40
_PLACEHOLDER = re.compile(r"%(-?[A-Za-z]|.?)", re.DOTALL)
_MONTHS = (
    "January February March April May June July August September October November December"
).split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
# the codes of strftime that mean the same on every system; names are English
_CODES: Mapping[str, Callable[[datetime], str]] = {
    "d": lambda at: f"{at.day:02}",
    "-d": lambda at: str(at.day),
    "m": lambda at: f"{at.month:02}",
    "-m": lambda at: str(at.month),
    "B": lambda at: _MONTHS[at.month - 1],
    "b": lambda at: _MONTHS[at.month - 1][:3],
    "Y": lambda at: f"{at.year:04}",
    "y": lambda at: f"{at.year % 100:02}",
    "A": lambda at: _DAYS[at.weekday()],
    "a": lambda at: _DAYS[at.weekday()][:3],
    "H": lambda at: f"{at.hour:02}",
    "-H": lambda at: str(at.hour),
    "I": lambda at: f"{_on_twelve(at.hour):02}",
    "-I": lambda at: str(_on_twelve(at.hour)),
    "M": lambda at: f"{at.minute:02}",
    "S": lambda at: f"{at.second:02}",
    "p": lambda at: "PM" if at.hour >= _NOON else "AM",
    "j": lambda at: f"{at.timetuple().tm_yday:03}",
    "Z": lambda at: at.tzname() or "",
    "z": lambda at: at.strftime("%z"),
    "%": lambda _: "%",
}
_NOON = 12


def format_problem(text: str) -> str | None:
    unknown = next((code for code in _PLACEHOLDER.findall(text) if code not in _CODES), None)
    return None if unknown is None else f"has the unknown code '%{unknown}'"


def zone_problem(name: str) -> str | None:
    return None if _zone(name) else f"{name[:_LONGEST]!r} is no time zone"


def written(value: Any, text: str, zone: str) -> str | None:
    """Writes the time in the format and the zone; returns None if the value is not a time.

    A date without a time of day is the same date in every zone. A time without a zone is UTC.
    """
    moment = _moment(value, zone)
    if moment is None:
        return None
    return _PLACEHOLDER.sub(lambda found: _CODES[found[1]](moment), text)


def _moment(value: Any, zone: str) -> datetime | None:
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    zone_info = _zone(zone) or UTC
    try:
        # a time of day takes more characters than any date
        if len(value) <= len("2026-W01-1") and "T" not in value:
            day = date.fromisoformat(value)
            return datetime(day.year, day.month, day.day, tzinfo=zone_info)
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(zone_info)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=1_000)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    # ZoneInfo raises several errors: a name may be a folder's, too long, or invalid as a file's
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _on_twelve(hour: int) -> int:
    return hour % _NOON or _NOON
