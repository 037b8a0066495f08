"""A realistic user base: people of 50 countries, as JSON Lines in the Stream import format."""

import random
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

# country: how many of a thousand users are from there, and what they speak
COUNTRIES = {
    "USA": (188, "en"),
    "India": (105, "en"),
    "Brazil": (70, "pt"),
    "United Kingdom": (60, "en"),
    "Germany": (55, "de"),
    "Indonesia": (45, "id"),
    "France": (42, "fr"),
    "Mexico": (38, "es"),
    "Japan": (35, "ja"),
    "Philippines": (28, "en"),
    "Canada": (27, "en"),
    "Spain": (24, "es"),
    "Turkey": (22, "tr"),
    "Italy": (21, "it"),
    "Nigeria": (20, "en"),
    "Vietnam": (18, "vi"),
    "Poland": (16, "pl"),
    "South Korea": (15, "ko"),
    "Argentina": (14, "es"),
    "Colombia": (13, "es"),
    "Australia": (13, "en"),
    "Netherlands": (12, "nl"),
    "Egypt": (11, "ar"),
    "Thailand": (10, "th"),
    "South Africa": (9, "en"),
    "Pakistan": (9, "en"),
    "Bangladesh": (8, "bn"),
    "Kenya": (7, "en"),
    "Sweden": (6, "sv"),
    "Ukraine": (6, "uk"),
    "Chile": (5, "es"),
    "Malaysia": (5, "en"),
    "Peru": (4, "es"),
    "Belgium": (4, "nl"),
    "Austria": (4, "de"),
    "Switzerland": (4, "de"),
    "Portugal": (3, "pt"),
    "Romania": (3, "ro"),
    "Czechia": (3, "cs"),
    "Greece": (2, "el"),
    "Morocco": (2, "ar"),
    "Ireland": (2, "en"),
    "Norway": (2, "no"),
    "Denmark": (2, "da"),
    "Finland": (2, "fi"),
    "Singapore": (2, "en"),
    "New Zealand": (1, "en"),
    "Israel": (1, "he"),
    "Iceland": (1, "is"),
    "Uruguay": (1, "es"),
}

_FIRST = (
    "Amelia Ana Anders Aoife Arjun Aylin Bilal Björn Camila Chidi Chloé Dana Diego Elif Emma Fatima "
    "Finn Grace Hana Hugo Ines Ivan Jakub Jin Joana Kaito Lars Layla Leon Lucía Maja Mateo Mei Nia "
    "Noah Olivia Omar Priya Rafael Rosa Sara Sofia Tariq Thandi Uma Viktor Wanjiru Yusuf Zoe Zofia"
).split()
_LAST = (
    "Adeyemi Ali Andersson Becker Bianchi Brown Chen Costa Dubois Fernández Fischer García Gupta "
    "Hansen Ito Jansen Johnson Kaya Khan Kim Kowalski Kumar Lee Lopez Martin Mbeki Meyer Miller "
    "Murphy Nguyen Novak Okafor Otieno Park Patel Pereira Popescu Ramos Rossi Santos Schmidt Silva "
    "Singh Smith Suzuki Tanaka Taylor Virtanen Weber Yılmaz"  # noqa: RUF001 - that is how the name is written
).split()
_TEAMS = ("red", "blue", "green", "gold")
_INTERESTS = ("music", "travel", "football", "cooking", "games", "books", "film", "yoga")
_PLANS = (("free", "pro", "business"), (80, 17, 3))
_PLATFORMS = (("android", "ios", "web"), (55, 35, 10))

_NEWEST = datetime(2026, 1, 1, tzinfo=UTC)
_OLDEST_DAYS = 5 * 365


def people(seed: int = 1) -> Iterator[dict[str, Any]]:
    """Users without end, as the `data` of import records; the same for the same seed.

    Their ids are ASCII, at most 24 characters, and in no order of the other attributes.
    """
    choose = random.Random(seed)  # noqa: S311 - nobody's secret
    countries = list(COUNTRIES)
    weights = [weight for weight, _ in COUNTRIES.values()]
    number = 0
    while True:
        number += 1
        (country,) = choose.choices(countries, weights)
        first, last = choose.choice(_FIRST), choose.choice(_LAST)
        created_at = _NEWEST - timedelta(seconds=choose.randrange(_OLDEST_DAYS * 86_400))
        user_id = f"user-{choose.getrandbits(32):08x}-{number}"
        yield {
            "id": user_id,
            "name": f"{first} {last}",
            "email": f"{user_id}@example.com",
            "language": COUNTRIES[country][1],
            "teams": choose.sample(_TEAMS, choose.choice((0, 1, 1, 1, 2))),
            "created_at": created_at.isoformat().replace("+00:00", "Z"),
            "country": country,
            "age": min(90, 16 + int(choose.expovariate(1 / 18))),
            "plan": choose.choices(*_PLANS)[0],
            "platform": choose.choices(*_PLATFORMS)[0],
            "interests": choose.sample(_INTERESTS, choose.randrange(4)),
            "newsletter": choose.random() < 0.4,
            "address": {"zip": f"{choose.randrange(100_000):05}"},
        }


def write_people(file: Path, them: Iterable[Mapping[str, Any]]) -> None:
    """Writes them for `python -m chat_store import`, however many they are."""
    with file.open("wb") as lines:
        for person in them:
            lines.write(orjson.dumps({"type": "user", "data": person}) + b"\n")
