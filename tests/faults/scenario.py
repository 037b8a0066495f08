"""What a seed stands for: a campaign, the servers that send it, and what happens to them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from chat_store.database.crash_points import CrashPoint, Point
from tests.faults.audiences import WAYS, Audience, Way, drawn_audience, everyone
from tests.faults.steps import LIBRARY_STEPS, module_of, steps_in_source

Dialect = Literal["sqlite", "postgresql"]
_DIALECTS: tuple[Dialect, ...] = ("sqlite", "postgresql")

CAMPAIGN_ID = "campaign"
ON_EITHER = (
    "crash",
    "kill",
    "drain",
    "freeze",
    "join",
    "cut-segment",
    "hold-segment",
    "refuse-segment",
    "start-without-segments",
    "freeze-sender",
    "freeze-segment",
    "stop-and-go",
    "grow",
    "shrink",
    "change-filter",
    "delete-segment",
    "take-ids",
)
ON_SQLITE = ("full-disk", "lock-sqlite")
ON_POSTGRES = (
    "restart-postgres",
    "crash-postgres",
    "start-without-postgres",
    "cut-postgres",
    "hold-postgres",
    "lose-commit",
    "refuse-writes",
)
# a campaign that takes seconds gives them the time to happen
_BY_THE_CLOCK = frozenset((*ON_EITHER, *ON_SQLITE, *ON_POSTGRES)) - {
    "crash",
    "grow",
    "lose-commit",
    "take-ids",
}
# a campaign whose segment is deleted is over: nothing else can happen to its audience
_NOT_BESIDE_A_DELETION = {"stop-and-go", "grow", "shrink", "change-filter"}
_OF_LISTS = {"grow", "shrink"}
_LISTED: set[Way] = {"list", "overlap"}
_FILTERED: set[Way] = {"filter", "overlap", "filtered-rooms"}

# A crash at the first needs a server that is told to end at the very moment of a count; the next two
# a monthly quota, and messages of the campaign that no page of it has written; the hold's end is a
# command's, and not a server's; tokens are used where they are demanded. Pushes need a gateway:
# `journeys/test_pushes.py` kills servers there.
STEPS_OF_PUSHES = frozenset({"push.begin", "push.advance", "push.count", "devices.disable"})
UNREACHABLE = STEPS_OF_PUSHES | {
    "sizing.give-back",
    "run.count-month",
    "run.recount",
    "hold.release",
    "token.note-used",
    # refused calls, and rows of years; either server chains a row, whichever is first
    "audit.refusals",
    "audit.cut",
    "audit.grow",
}
REACHABLE = frozenset(steps_in_source()) - LIBRARY_STEPS - UNREACHABLE
# the fault that makes a run take the step; the others are taken anyway, or by an errand
NEEDS = {
    "campaign.stop": "stop-and-go",
    "campaign.set-reason": "start-without-segments",
    "campaign.schedule": "start-without-segments",
    "run.set-reason": "refuse-segment",
    "run.release": "drain",
}
# a campaign without a limit is over before it has to
_PACED_STEPS = frozenset({"run.renew", "run.reserve", "hold.check"})
# PostgreSQL is migrated before, and counts no generations
_SQLITE_STEPS = frozenset({"schema.migrate", "hold.check"})

# how often a step is taken in a run, about: a page for each fifty targets, a start once
_OFTEN = {"run.page": 20, "run.reserve": 20, "run.renew": 4, "run.claim": 3, "sizing.claim": 3}


@dataclass(frozen=True, slots=True)
class Scenario:
    """`rate` is messages per second, 0 for no limit.

    0 `sender_processes`: the servers send. 0 `dispatcher_processes`: they deliver the events.

    `crashes` are for the servers' first lives, one each.
    """

    seed: int
    dialect: Dialect
    audience: Audience
    page_size: int
    lease_seconds: float
    rate: int
    slots: int
    sender_processes: int
    dispatcher_processes: int
    campaign_servers: int
    segment_servers: int
    scheduled: bool
    faults: Sequence[str]
    crashes: Sequence[CrashPoint] = ()

    def __str__(self) -> str:
        servers = f"{self.campaign_servers}+{self.segment_servers}"
        crashes = "".join(f" {crash}" for crash in self.crashes)
        return (
            f"{self.dialect:<10} {self.audience.way:<14} {servers} {' '.join(self.faults)}{crashes}"
        )


def drawn(seed: int) -> Scenario:
    """The scenario of a seed: always the same one."""
    choose = _choices(seed)
    dialect = choose.choice(_DIALECTS)
    several = ON_EITHER + (ON_SQLITE if dialect == "sqlite" else ON_POSTGRES)
    faults = choose.sample(several, k=choose.choice((1, 2, 2, 3)))
    if "delete-segment" in faults:
        faults = [fault for fault in faults if fault not in _NOT_BESIDE_A_DELETION]
    return _scenario(choose, seed, dialect, faults, WAYS)


def chosen(
    seed: int, dialect: Dialect, faults: Sequence[str], crashes: Sequence[CrashPoint] = ()
) -> Scenario:
    """With these faults, to lists that are filtered and added to; everything else is drawn."""
    return _scenario(_choices(seed), seed, dialect, faults, ["overlap"], crashes)


def every_point() -> Iterator[Scenario]:
    """A run for each point of each step that a server can come to, on both databases."""
    seed = 0
    for dialect in _DIALECTS:
        steps = REACHABLE - (set() if dialect == "sqlite" else _SQLITE_STEPS)
        for step in sorted(steps):
            faults = ["crash", *([NEEDS[step]] if step in NEEDS else [])]
            for point in Point:
                seed += 1
                yield chosen(seed, dialect, faults, [CrashPoint(step, point)])


def crowded(seed: int, users: int, rate: int) -> Scenario:
    """Three campaign servers, two segment servers, and one of each killed every second."""
    return Scenario(
        seed=seed,
        dialect="postgresql",
        audience=everyone(users, "made"),
        page_size=500,
        lease_seconds=1.0,
        rate=rate,
        slots=4,
        sender_processes=0,
        dispatcher_processes=0,
        campaign_servers=3,
        segment_servers=2,
        scheduled=False,
        faults=("kill-every-second",),
    )


def crashes_for(scenario: Scenario, module: str) -> list[CrashPoint]:
    """Those that a server of this kind comes to."""
    return [crash for crash in scenario.crashes if module_of(crash.step) == module]


def _choices(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - nobody's secret


def _scenario(
    choose: random.Random,
    seed: int,
    dialect: Dialect,
    faults: Sequence[str],
    ways: Sequence[Way],
    crashes: Sequence[CrashPoint] = (),
) -> Scenario:
    way = choose.choice([way for way in ways if _suits(way, faults)])
    audience = drawn_audience(choose, way, grows="grow" in faults)
    needs_time = _BY_THE_CLOCK.intersection(faults) or _PACED_STEPS & {c.step for c in crashes}
    paced = bool(needs_time) or choose.random() < 0.3
    if "crash" in faults and not crashes:
        crashes = _crashes(choose, dialect, paced=paced, faults=faults)
    return Scenario(
        seed=seed,
        dialect=dialect,
        audience=audience,
        page_size=choose.choice((50, 100, 200)),
        lease_seconds=choose.choice((1.0, 1.5, 2.0)),
        rate=int(len(audience.outcomes) / choose.uniform(2, 3)) if paced else 0,
        slots=choose.choice((2, 4)),
        # each start of a process that sends or delivers takes a second of a core, and a run has many
        sender_processes=1 if "freeze-sender" in faults or seed % 4 == 0 else 0,
        dispatcher_processes=1 if seed % 4 == 2 else 0,
        campaign_servers=choose.choice((1, 2) if dialect == "sqlite" else (1, 2, 3)),
        segment_servers=choose.choice((1, 2)),
        scheduled=choose.random() < 0.3 or "start-without-segments" in faults,
        faults=tuple(faults),
        crashes=tuple(crashes),
    )


def _suits(way: Way, faults: Sequence[str]) -> bool:
    """Whether all of these faults can happen to such an audience."""
    if _OF_LISTS.intersection(faults) and way not in _LISTED:
        return False
    if "change-filter" in faults and way not in _FILTERED:
        return False
    return way != "users" or not any(fault.endswith(("-segment", "-segments")) for fault in faults)


def _crashes(
    choose: random.Random, dialect: Dialect, *, paced: bool, faults: Sequence[str]
) -> tuple[CrashPoint, ...]:
    """Each server meets them one after the other: the second one strikes the recovery."""
    out_of_reach = {step for step, fault in NEEDS.items() if fault not in faults}
    out_of_reach |= set() if paced else _PACED_STEPS
    out_of_reach |= set() if dialect == "sqlite" else _SQLITE_STEPS
    likely = sorted(REACHABLE - out_of_reach)
    of_runs = [step for step in likely if step.startswith("run.")]
    steps = [
        choose.choice(of_runs),
        *choose.choices([*likely, *of_runs, *of_runs], k=choose.choice((1, 2, 3))),
    ]
    return tuple(
        CrashPoint(step, choose.choice(list(Point)), choose.randint(1, _OFTEN.get(step, 1)))
        for step in steps
    )
