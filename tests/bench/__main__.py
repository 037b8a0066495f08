"""`make bench`: what a campaign and its segments cost, measured on the real server processes.

A scenario is a module with `measure(bench_database) -> Iterator[Line]`, named in `_SCENARIOS`. `make soak`
runs the one that takes hours.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Annotated

import grpc
import typer
from rich.console import Console

from tests.bench import (
    access,
    audit,
    calls,
    channels,
    events,
    filters,
    imports,
    latency,
    messages,
    million,
    observed,
    replicas,
    segments,
    soak,
    throughput,
)
from tests.bench.databases import BenchDatabase, Kind, Line, open_bench_database
from tests.harness.hello_campaign import LateError
from tests.harness.processes import ServerError


@dataclass(frozen=True, slots=True)
class _Measurement:
    measure: Callable[[BenchDatabase], Iterator[Line]]
    users: int
    kinds: tuple[Kind, ...] = tuple(Kind)
    by_default: bool = True


_SCENARIOS = {
    "throughput": _Measurement(throughput.measure, 60_000),
    "messages": _Measurement(messages.measure, 60_000),
    "channels": _Measurement(channels.measure, 60_000),
    # the calls that come while 60,000 are sent are too few for a percentile
    "latency": _Measurement(latency.measure, 300_000),
    # SQLite has one writer
    "replicas": _Measurement(replicas.measure, 60_000, (Kind.POSTGRESQL,)),
    "observed": _Measurement(observed.measure, 60_000),
    "events": _Measurement(events.measure, 100_000),
    "segments": _Measurement(segments.measure, 1_000_000),
    "audit": _Measurement(audit.measure, 0),
    "calls": _Measurement(calls.measure, 10_000),
    "access": _Measurement(access.measure, 60_000),
    "filters": _Measurement(filters.measure, 10_000),
    "import": _Measurement(imports.measure, 1_000_000),
    "million": _Measurement(million.measure, 1_000_000),
    "soak": _Measurement(soak.measure, 10_000_000, by_default=False),
}
Scenario = StrEnum("Scenario", list(_SCENARIOS))  # type: ignore[misc]  # the names are the table's


def main(
    users: Annotated[
        int | None, typer.Option(min=1_000, help="How many users; a scenario has its own number.")
    ] = None,
    database: Annotated[list[Kind] | None, typer.Option(help="Which databases; all.")] = None,
    scenario: Annotated[
        list[Scenario] | None, typer.Option(help="What to measure; all but the soak.")
    ] = None,
) -> None:
    """Measures; fails if a result is not complete and exact."""
    console = Console(highlight=False, soft_wrap=True)
    asked: Sequence[str] = scenario or [name for name in _SCENARIOS if _SCENARIOS[name].by_default]
    console.print(f"{os.cpu_count()} cores")
    broken = False
    for kind in database or Kind:
        chosen = {name: _SCENARIOS[name] for name in asked if kind in _SCENARIOS[name].kinds}
        for size, names in groupby(chosen, key=lambda name: users or chosen[name].users):
            console.print(f"\n[bold]{kind}[/bold], {size:,} users")
            with open_bench_database(kind, size) as bench_database:
                for name in names:
                    try:
                        for line in chosen[name].measure(bench_database):
                            _show(console, line)
                    except (AssertionError, LateError, ServerError, grpc.RpcError) as error:
                        broken = True
                        _show(console, Line(name, "BROKEN", str(error)))
    if broken:
        sys.exit(1)


def _show(console: Console, line: Line) -> None:
    console.print(f"  {line.what:<40}{line.value:>20}   {line.remark}", markup=False)


if __name__ == "__main__":
    typer.run(main)
