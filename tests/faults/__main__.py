"""`make faults`: seed after seed, each a campaign among faults, recounted after its end."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import typer

from tests.faults.audiences import USERS
from tests.faults.pool import played
from tests.faults.scenario import Scenario, crowded, drawn, every_point


def main(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 200,
    first: Annotated[int, typer.Option(help="The first of them.")] = 1,
    *,
    seed: Annotated[int | None, typer.Option(help="Just this one.")] = None,
    many: Annotated[
        int | None, typer.Option(help="Instead: so many users, and a server killed every second.")
    ] = None,
    points: Annotated[
        bool, typer.Option("--points", help="Instead: one run for each named point, or for --seed.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="How many at a time.")] = 1,
) -> None:
    """Exit code 1 if any run is broken, a named point was not reached, or nothing was played."""
    fired: Counter[str] = Counter()
    runs, wrong = 0, []
    for outcome in played(
        _scenarios(seeds, first, seed=seed, points=points, many=many), jobs, many or USERS
    ):
        print(outcome, flush=True)
        runs += 1
        fired.update(name for name, times in outcome.fired.items() if times)
        if outcome.problem:
            print(outcome.problem, flush=True)
        if outcome.problem or (points and not outcome.fired["crash"]):
            wrong.append(str(outcome.scenario.seed))
    for name, times in sorted(fired.items()):
        print(f"{name:<40} in {times} runs")
    print(f"\n{runs} runs, {len(wrong)} broken {' '.join(wrong)}")
    raise typer.Exit(1 if wrong or not runs else 0)


def _scenarios(
    seeds: int, first: int, *, seed: int | None, points: bool, many: int | None
) -> Iterator[Scenario]:
    if many is not None:
        yield crowded(first, many, 0)
    elif points:
        yield from (point for point in every_point() if seed in (None, point.seed))
    else:
        yield from map(drawn, [seed] if seed is not None else range(first, first + seeds))


if __name__ == "__main__":
    typer.run(main)
