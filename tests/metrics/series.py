"""Series as Prometheus reads them."""

from collections.abc import Iterator, Mapping

import aiohttp
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def series_in(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def series_of(registry: CollectorRegistry) -> Series:
    return series_in(generate_latest(registry).decode())


def value(series: Series, name: str, **labels: str) -> float | None:
    """None if there is no such series."""
    return series.get((name, frozenset(labels.items())))


def by_label(series: Series, name: str, label: str, **others: str) -> dict[str, float]:
    """The values of the series with these other labels, by that one."""
    return dict(_by_label(series, name, label, others))


def _by_label(
    series: Series, name: str, label: str, others: Mapping[str, str]
) -> Iterator[tuple[str, float]]:
    for (found, labels), number in series.items():
        given = dict(labels)
        if found == name and given.items() >= others.items():
            yield given[label], number


async def get(address: str, path: str) -> tuple[int, str]:
    """The status and the text of the answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}{path}") as response,
    ):
        return response.status, await response.text()


async def scraped(address: str) -> Series:
    status, text = await get(address, "/metrics")
    assert status == 200
    return series_in(text)
