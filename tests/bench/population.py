"""Whom the benchmarks are about: segments of a known part of them are there to be measured."""

import random
from collections.abc import Iterator
from typing import Any

from tests.harness.sample_users import COUNTRIES, people

_AGES = range(16, 44)
HALF = {"age": {"$gte": 30}}
"""A filter that matches one in two."""
ONE_IN_100 = {"country": "USA", "age": {"$gte": 30}}
"""A filter that matches one in a hundred."""


def population(seed: int = 1) -> Iterator[dict[str, Any]]:
    """People without end, as many of one country as of another, and of one age as of another."""
    choose = random.Random(seed)  # noqa: S311 - nobody's secret
    countries = list(COUNTRIES)
    for person in people(seed):
        country = choose.choice(countries)
        language = COUNTRIES[country][1]
        yield {**person, "country": country, "language": language, "age": choose.choice(_AGES)}
