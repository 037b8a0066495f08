"""Calls, ticks, crashes and other audiences in any order, against the model in plain Python."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from campaign_service.campaigns.errors import StatusNotAllowedError
from campaign_service.campaigns.model import Status, Times
from campaign_service.storage.ports import Lease
from tests.campaign.in_process_replica import (
    LEASE_TIME,
    Environment,
    RunStoreWithHooks,
    an_environment,
)
from tests.campaign.model import ACTIVE, EVERYONE, LISTS, Plan
from tests.campaign.model_run import ModelRun

HOUR = timedelta(hours=1)

NAMES = ("spring", "summer", "autumn")

names = st.sampled_from(NAMES)
targets = st.frozensets(st.sampled_from(EVERYONE), min_size=1)
lists = st.sampled_from(LISTS)
some_lists = st.frozensets(lists, min_size=1)
audiences = st.one_of(
    st.lists(lists, min_size=1, unique=True).map(lambda ids: {"lists": tuple(ids)}),
    st.lists(lists, unique=True).map(lambda ids: {"lists": tuple(ids), "filtered": True}),
    st.lists(st.sampled_from(EVERYONE), min_size=1, max_size=12).map(
        lambda ids: {"users": tuple(ids)}
    ),
)
plans = st.builds(
    # a campaign that fails for everyone would stop: among all there is always someone to send to
    lambda audience, way, wording, fails: Plan(
        **({"users": ACTIVE} if fails else audience), way=way, wording=wording, fails=fails
    ),
    audiences,
    st.sampled_from(["new", "rooms", "unnamed"]),
    st.integers(0, 3),
    st.booleans(),
)
delays = st.none() | st.sampled_from([HOUR, 2 * HOUR, -HOUR])
steps = st.sampled_from(
    [timedelta(0), HOUR, 3 * HOUR, 5 * HOUR, LEASE_TIME * 2, timedelta(minutes=-1)]
)
# at which of a sender's pages something happens
pages = st.integers(1, 4)
# what is started before a sender looks: one that is there already, or a new one
openings = st.none() | st.tuples(names, st.none() | plans)
Opening = tuple[str, Plan | None]


class Campaigns(RuleBasedStateMachine):
    """After every rule everything is recounted, and compared with what it should be."""

    def __init__(self, environment: Environment, runner: asyncio.Runner) -> None:
        super().__init__()
        self._world = environment
        self._runner = runner

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            await work
            await self.story.check()

        self._runner.run(run())

    def send_all(self, opening: Opening | None, work: Coroutine[Any, Any, None]) -> None:
        async def send() -> None:
            if opening is not None:
                await self._start(opening, Times())
            await work

        self.run(send())

    async def _start(self, opening: Opening, times: Times) -> None:
        name, plan = opening
        if plan is not None:
            await self.story.create(name, plan)
        await self.story.start(name, times)

    def teardown(self) -> None:
        self._runner.run(self.story.close())

    @initialize(
        page_size=st.integers(2, 3),
        contents=st.tuples(*[st.frozensets(st.sampled_from(EVERYONE), max_size=6)] * len(LISTS)),
        plan=plans,
    )
    def set_out(self, page_size: int, contents: tuple[frozenset[str], ...], plan: Plan) -> None:
        self.run(self._set_out(page_size, contents, plan))

    async def _set_out(
        self, page_size: int, contents: tuple[frozenset[str], ...], plan: Plan
    ) -> None:
        self.story = story = ModelRun(self._world, page_size)
        await story.set_out(contents)
        await story.create("spring", plan)

    # --- what callers do

    @rule(name=names, plan=plans)
    def create(self, name: str, plan: Plan) -> None:
        self.run(self.story.create(name, plan))

    @rule(name=names, plan=plans, etag=st.sampled_from(["", "current", "stale"]))
    def update(self, name: str, plan: Plan, etag: str) -> None:
        self.run(self.story.update(name, plan, etag))

    @rule(name=names)
    def say_the_same_audience_in_another_order(self, name: str) -> None:
        known = self.story.expected.get(name)
        if known is not None:
            plan = known.plan
            turned = replace(plan, users=plan.users[::-1], lists=plan.lists[::-1])
            self.run(self.story.update(name, turned))

    @rule(name=names)
    def start(self, name: str) -> None:
        self.run(self.story.start(name, Times()))

    @rule(name=names, plan=st.none() | plans, delay=delays, end=delays)
    def start_by_the_clock(
        self, name: str, plan: Plan | None, delay: timedelta | None, end: timedelta | None
    ) -> None:
        now = self.story.clock.now
        at = None if delay is None else now + delay
        until = None if end is None else (at or now) + end
        self.run(self._start((name, plan), Times(at, until)))

    @rule(name=names)
    def stop(self, name: str) -> None:
        self.run(self.story.stop(name))

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.run(self.story.delete(name))

    @rule(name=lists, members=targets)
    def add_targets(self, name: str, members: frozenset[str]) -> None:
        self.run(self.story.add(name, members))

    @rule(name=lists, members=targets)
    def remove_targets(self, name: str, members: frozenset[str]) -> None:
        self.run(self.story.remove(name, members))

    # --- what passes by itself

    @rule(step=steps)
    def tick(self, step: timedelta) -> None:
        self.run(self.story.tick(step))

    @rule(step=steps)
    def restart(self, step: timedelta) -> None:
        """After some time."""
        self.run(self._restart(step))

    async def _restart(self, step: timedelta) -> None:
        await self.story.restart()
        await self.story.tick(step)

    # --- what senders do, and what happens meanwhile

    @rule(opening=openings)
    def send(self, opening: Opening | None) -> None:
        self.send_all(opening, self._send())

    async def _send(self) -> None:
        await self.story.replica.send()
        await self.story.settle()

    @rule(opening=openings)
    def send_side_by_side(self, opening: Opening | None) -> None:
        self.send_all(opening, self._send_side_by_side())

    async def _send_side_by_side(self) -> None:
        await asyncio.gather(self.story.replica.send(), self.story.other.send())
        await self.story.settle()

    @rule(opening=openings, at=pages, after=st.booleans())
    def send_until_shut_down(self, opening: Opening | None, at: int, *, after: bool) -> None:
        self.send_all(opening, self._send_until_shut_down(at, after=after))

    async def _send_until_shut_down(self, at: int, *, after: bool) -> None:
        stop = asyncio.Event()

        async def shut_down(_: Lease) -> None:
            stop.set()

        runs = RunStoreWithHooks(self.story.replica.database, shut_down, at, after=after)
        await self.story.replica.send(runs, stop)
        await self.story.settle(cut_short=runs.reached is not None)

    @rule(opening=openings, at=pages, after=st.booleans(), turns=st.none() | st.integers(0, 40))
    def send_and_crash(
        self, opening: Opening | None, at: int, *, after: bool, turns: int | None
    ) -> None:
        """Between two pages, or so many turns of the event loop later, wherever that is."""
        self.send_all(opening, self._send_and_crash(at, after=after, turns=turns))

    async def _send_and_crash(self, at: int, *, after: bool, turns: int | None) -> None:
        crashes: list[asyncio.Task[None]] = []

        async def crash_after(turns: int) -> None:
            await _pass(turns)
            sender.cancel()

        async def crash(_: Lease) -> None:
            if turns is None:
                sender.cancel()
                await asyncio.sleep(0)
            else:
                crashes.append(asyncio.create_task(crash_after(turns)))

        runs = RunStoreWithHooks(self.story.replica.database, crash, at, after=after)
        sender = asyncio.create_task(self.story.replica.send(runs))
        with suppress(asyncio.CancelledError):
            await sender
        await asyncio.gather(*crashes)
        await self.story.restart()
        crashed = runs.reached is not None
        await self.story.settle(cut_short=crashed, crashed=crashed)

    @rule(opening=openings, at=pages, after=st.booleans())
    def send_and_stop_in_the_middle(self, opening: Opening | None, at: int, *, after: bool) -> None:
        async def stop(lease: Lease) -> None:
            await self.story.stop(self.story.name(lease.campaign_id))

        self.send_all(opening, self.story.send_while(stop, at, after=after))

    @rule(opening=openings, name=names, turns=st.integers(0, 200))
    def send_and_stop_at_any_moment(self, opening: Opening | None, name: str, turns: int) -> None:
        self.send_all(opening, self._send_and_stop_at_any_moment(name, turns))

    async def _send_and_stop_at_any_moment(self, name: str, turns: int) -> None:
        story = self.story
        sender = asyncio.create_task(story.replica.send())
        await _pass(turns)
        known = story.expected.get(name)
        if known is not None and known.status is Status.IN_PROGRESS:
            # completed already, else
            with suppress(StatusNotAllowedError):
                await story.replica.lifecycle.stop(story.id(name))
                known.stop()()
                await story.absorb(name)
        await sender
        await story.settle()

    @rule(opening=openings, at=pages, after=st.booleans(), plan=plans)
    def send_and_edit_in_the_middle(
        self, opening: Opening | None, at: int, *, after: bool, plan: Plan
    ) -> None:
        """Stopped, changed and resumed, all while the sender is busy with a page."""

        async def edit(lease: Lease) -> None:
            name = self.story.name(lease.campaign_id)
            await self.story.stop(name)
            await self.story.update(name, plan)
            await self.story.start(name, Times())

        self.send_all(opening, self.story.send_while(edit, at, after=after))

    @rule(opening=openings, at=pages, after=st.booleans(), to=some_lists, members=targets)
    def send_and_add_targets_in_the_middle(
        self,
        opening: Opening | None,
        at: int,
        *,
        after: bool,
        to: frozenset[str],
        members: frozenset[str],
    ) -> None:
        async def add(_: Lease) -> None:
            for name in sorted(to):
                await self.story.add(name, members)

        self.send_all(opening, self.story.send_while(add, at, after=after))

    @rule(opening=openings, at=pages, after=st.booleans(), name=lists, members=targets)
    def send_and_remove_targets_in_the_middle(
        self, opening: Opening | None, at: int, *, after: bool, name: str, members: frozenset[str]
    ) -> None:
        async def remove(_: Lease) -> None:
            await self.story.remove(name, members)

        self.send_all(opening, self.story.send_while(remove, at, after=after))

    @rule(opening=openings, at=pages, after=st.booleans(), step=steps)
    def send_while_time_passes(
        self, opening: Opening | None, at: int, *, after: bool, step: timedelta
    ) -> None:
        async def tick(_: Lease) -> None:
            await self.story.tick(step)

        self.send_all(opening, self.story.send_while(tick, at, after=after))

    @rule(opening=openings, at=pages, taken=st.none() | pages)
    def send_and_sleep_through_the_lease(
        self, opening: Opening | None, at: int, taken: int | None
    ) -> None:
        """Another sender takes over, to the end or for some pages; then the first one wakes."""
        self.send_all(opening, self._send_and_sleep_through_the_lease(at, taken))

    async def _send_and_sleep_through_the_lease(self, at: int, taken: int | None) -> None:
        async def sleep(_: Lease) -> None:
            self.story.clock.now += LEASE_TIME * 2
            other, stop = self.story.other, asyncio.Event()

            async def shut_down(_: Lease) -> None:
                stop.set()

            runs = RunStoreWithHooks(other.database, shut_down, taken or 0, after=True)
            await other.send(runs, stop)

        runs = RunStoreWithHooks(self.story.replica.database, sleep, at)
        await self.story.replica.send(runs)
        # someone else's to the end is no one's any more
        assert taken or runs.refused == (runs.reached is not None)
        await self.story.settle()


async def _pass(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def test_a_resumed_run_goes_on_when_its_segments_are_named_in_another_order(
    sqlite_url: str,
) -> None:
    plan = Plan(lists=("a", "b"))

    async def resume() -> None:
        async with an_environment(sqlite_url) as environment:
            story = ModelRun(environment, page_size=2)
            await story.set_out([frozenset(ACTIVE[:5]), frozenset(ACTIVE[3:]), frozenset()])
            await story.create("spring", plan)
            await story.start("spring", Times())

            async def turn(_: Lease) -> None:
                await story.stop("spring")
                await story.update("spring", replace(plan, lists=("b", "a")))
                await story.start("spring", Times())

            await story.send_while(turn, 1, after=True)
            await story.check()
            assert story.expected["spring"].handled.keys() == set(ACTIVE)

    asyncio.run(resume())


@pytest.mark.nightly_on("postgresql")
@pytest.mark.parametrize(
    ("database_url", "share"), [("sqlite", 4), ("postgresql", 12)], indirect=["database_url"]
)
def test_campaigns_are_what_the_model_says(database_url: str, share: int) -> None:
    with asyncio.Runner() as runner:
        shared = an_environment(database_url)
        environment = runner.run(shared.__aenter__())

        class Here(Campaigns):
            def __init__(self) -> None:
                super().__init__(environment, runner)

        examples = max(1, settings().max_examples // share)
        try:
            run_state_machine_as_test(
                Here, settings=settings(max_examples=examples, stateful_step_count=25)
            )
        finally:
            runner.run(shared.__aexit__(None, None, None))
