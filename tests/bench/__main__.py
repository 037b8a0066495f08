"""`make bench`: what a campaign costs, measured on the two real server processes.

A scenario is a module with `measure(place) -> Iterator[Line]`, named in `_SCENARIOS`.
"""

import sys
from enum import StrEnum
from typing import Annotated

import grpc
import typer
from rich.console import Console

from tests.bench import latency, throughput
from tests.bench.places import Kind, Line, open_place
from tests.harness.main_job import LateError

_SCENARIOS = {"throughput": throughput.measure, "latency": latency.measure}
Scenario = StrEnum("Scenario", list(_SCENARIOS))  # type: ignore[misc]  # the names are the table's


def main(
    users: Annotated[int, typer.Option(min=1_000, help="How many users to send to.")] = 60_000,
    database: Annotated[list[Kind] | None, typer.Option(help="Which databases; all.")] = None,
    scenario: Annotated[list[Scenario] | None, typer.Option(help="What to measure; all.")] = None,
) -> None:
    """Measures campaigns; fails if one of them is not complete and exact."""
    console = Console(highlight=False, soft_wrap=True)
    broken = False
    for kind in database or Kind:
        console.print(f"\n[bold]{kind}[/bold], {users:,} users")
        with open_place(kind, users) as place:
            for name in scenario or _SCENARIOS:
                try:
                    for line in _SCENARIOS[name](place):
                        _show(console, line)
                except (AssertionError, LateError, grpc.RpcError) as error:
                    broken = True
                    _show(console, Line(name, "BROKEN", str(error)))
    if broken:
        sys.exit(1)


def _show(console: Console, line: Line) -> None:
    console.print(f"  {line.what:<36}{line.value:>20}   {line.remark}", markup=False)


if __name__ == "__main__":
    typer.run(main)
