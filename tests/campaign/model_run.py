"""One story of campaigns: each step is done by the real parts and, beside them, by the model."""

from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.errors import (
    CampaignAlreadyExistsError,
    CampaignError,
    CampaignNotFoundError,
    EtagMismatchError,
)
from campaign_service.campaigns.model import Campaign, CampaignSpec, Status, Times
from campaign_service.storage.history import revisions_after
from chat_store.database.engine import Database
from chat_store.errors import InvalidInputError
from tests.campaign.builders import MOMENT, a_channel_template, a_message_template, a_spec
from tests.campaign.in_process_replica import (
    EXTRA_ID,
    FILTER_SEGMENT_ID,
    LEASE_TIME,
    Environment,
    Hook,
    InProcessReplica,
    RunStoreWithHooks,
)
from tests.campaign.model import LISTS, SENT, STEPS, Expected, Handled, Plan, is_too_late
from tests.harness.manual_clock import ManualClock
from tests.harness.reconciliation import assert_consistent, assert_everyone_has_one_outcome, recount

# what the model does to itself; raises what the call should
Effect = Callable[[], Callable[[], None]]

_MESSAGES = text(
    "SELECT target_id, text, cid, id, created_at FROM messages WHERE campaign_id = :id"
)
_OUTCOMES = text(
    "SELECT target_id, reason, created_at FROM campaign_outcomes WHERE campaign_id = :id"
)


class ModelRun:
    def __init__(self, world: Environment, page_size: int) -> None:
        self.world = world
        self.number = next(world.numbers)
        self.clock = ManualClock(MOMENT)
        self._page_size = page_size
        self.replica = self._a_replica(world.database)
        self.other = self._a_replica(world.other)
        self.expected: dict[str, Expected] = {}
        self.lists: dict[str, frozenset[str]] = {}
        # by campaign: all that it has been, and for whom, since its targets were last looked at
        self._seen: dict[str, list[tuple[Plan, frozenset[str]]]] = {}
        self._last_change: dict[str, Campaign] = {}

    def id(self, name: str) -> str:
        return f"{name}-{self.number}"

    def name(self, id_: str) -> str:
        return id_.removesuffix(f"-{self.number}")

    async def set_out(self, contents: Sequence[frozenset[str]]) -> None:
        """With these lists."""
        for name, targets in zip(LISTS, contents, strict=True):
            await self.world.create_list(self.id(name))
            self.lists[name] = frozenset()
            if targets:
                await self.add(name, targets)

    async def close(self) -> None:
        """The senders of the next story must find none of this one's campaigns."""
        async with self.other.database.transaction() as connection:
            await connection.execute(text("UPDATE campaigns SET status = 'stopped'"))

    # --- what callers do, and the clock

    async def create(self, name: str, plan: Plan) -> None:
        def effect() -> Callable[[], None]:
            known = self.expected.get(name)
            if known is None:
                return lambda: self.expected.update({name: Expected(plan)})
            if known.deleted or not known.plan.same_as(plan):
                raise CampaignAlreadyExistsError(name)
            return lambda: None

        spec = self._definition(plan)
        await self._call(
            self.replica.lifecycle.create(self.id(name), spec, validate_only=False), effect
        )

    async def update(self, name: str, plan: Plan, etag: str = "") -> None:
        """`etag` is "current", "stale" or not given."""
        revision = self.expected[name].revision if name in self.expected else 1
        etags = {"": "", "current": str(revision), "stale": str(revision - 1)}

        def effect() -> Callable[[], None]:
            known = self._known(name)
            if etag == "stale" and not known.deleted:
                raise EtagMismatchError(name, "", "")
            return known.update(plan)

        spec = self._definition(plan)
        await self._call(
            self.replica.lifecycle.update(self.id(name), etags[etag], lambda _: spec), effect
        )

    async def start(self, name: str, times: Times) -> None:
        now = self.clock.now

        def effect() -> Callable[[], None]:
            if is_too_late(times, now):
                raise InvalidInputError("stop_at", "")
            known = self._known(name)
            return known.start(times, now, known.plan.audience(self.lists))

        await self._call(self.replica.lifecycle.start(self.id(name), times), effect)

    async def stop(self, name: str) -> None:
        stop = self.replica.lifecycle.stop(self.id(name))
        await self._call(stop, lambda: self._known(name).stop())
        if name in self.expected:
            await self.absorb(name)

    async def delete(self, name: str) -> None:
        delete = self.replica.lifecycle.delete(self.id(name))
        await self._call(delete, lambda: self._known(name).delete())

    async def add(self, name: str, targets: frozenset[str]) -> None:
        await self.world.add_targets(self.id(name), targets)
        self.lists[name] |= targets
        self._look()

    async def remove(self, name: str, targets: frozenset[str]) -> None:
        await self.world.remove_targets(self.id(name), targets)
        self.lists[name] -= targets
        self._look()

    async def tick(self, step: timedelta) -> None:
        self.clock.now += step
        await self.replica.schedule.run_once()
        for name, known in self.expected.items():
            before = known.status
            known.tick(self.clock.now, known.plan.audience(self.lists))
            if (before, known.status) == (Status.IN_PROGRESS, Status.STOPPED):
                await self.absorb(name)
        self._look()

    async def restart(self) -> None:
        await self.world.reopen()
        self.replica = self._a_replica(self.world.database)

    # --- what senders do

    async def send_while(self, hook: Hook, at: int, *, after: bool) -> None:
        """To the end; at the `at`-th page `hook` happens."""
        runs = RunStoreWithHooks(self.replica.database, hook, at, after=after)
        await self.replica.send(runs)
        await self.settle(met=runs.reached)

    async def settle(
        self, *, met: str | None = None, cut_short: bool = False, crashed: bool = False
    ) -> None:
        """After a sender has done what it could, unless it was `cut_short`.

        `met` is the campaign that it sent when something happened: it was completed afterwards,
        and any other one before or afterwards.
        """
        for name, known in self.expected.items():
            if known.status is not Status.IN_PROGRESS:
                continue
            audiences = [audience for _, audience in self._seen[name]]
            await self.absorb(name)
            campaign = await self.other.campaigns.get(self.id(name))
            if campaign.status is Status.COMPLETED:
                sure = audiences[-1] if met == campaign.id else frozenset.intersection(*audiences)
                assert sure <= known.handled.keys(), (name, sure, known)
                known.complete()
                continue
            assert campaign.status is Status.IN_PROGRESS, (campaign.status_reason, known)
            held = known.held_until is not None and self.clock.now <= known.held_until
            assert cut_short or held, (campaign, known)
            if crashed:
                known.held_until = self.clock.now + LEASE_TIME

    async def absorb(self, name: str) -> None:
        """Looks who has been handled: as the campaign says, and for good."""
        known = self.expected[name]
        async with self.other.database.snapshot() as connection:
            handled = await _handled(connection, self.id(name))
        assert known.handled.items() <= handled.items(), (known, handled)
        for target in handled.keys() - known.handled.keys():
            reported = {
                self._outcome(plan, target)
                for plan, audience in self._seen[name]
                if target in audience
            }
            assert handled[target].reported in reported, (target, handled[target], self._seen[name])
        known.handled = handled
        self._seen[name] = []
        self._look()

    # --- what holds at any time

    async def check(self) -> None:
        for name, known in self.expected.items():
            await self._check(name, known)

    async def _check(self, name: str, known: Expected) -> None:
        last = self._last_change.get(name)
        campaign = await self.other.campaigns.get(self.id(name))
        async with self.other.database.snapshot() as connection:
            handled = await _handled(connection, campaign.id)
            changes = await revisions_after(connection, campaign.id, last.revision if last else 0)
        stats = campaign.stats
        assert (campaign.status, campaign.revision) == (known.status, known.revision), known
        assert (campaign.deleted_at is not None) == known.deleted
        assert campaign.spec.same_as(self._definition(known.plan))
        assert Times(campaign.scheduled_for, campaign.stop_at) == known.times
        assert stats.started_at == known.started_at
        assert stats.targets_total == known.targets_total
        assert stats.targets_handled == len(handled)
        assert handled == known.handled
        if known.status is Status.COMPLETED:
            assert_everyone_has_one_outcome(self.world.url, campaign.id, len(handled))
        else:
            assert_consistent(recount(self.world.url, campaign.id))
        for change in changes:
            _assert_follows(last, change)
            last = self._last_change[name] = change
        assert last is not None
        assert (last.revision, last.updated_at) == (campaign.revision, campaign.updated_at)

    # --- the rest

    def _a_replica(self, database: Database) -> InProcessReplica:
        return InProcessReplica(database, self.world.segments, self.clock, self._page_size)

    async def _call(self, work: Coroutine[Any, Any, object], effect: Effect) -> None:
        refusal, apply = None, None
        try:
            apply = effect()
        except (CampaignError, InvalidInputError) as refused:
            refusal = type(refused)
        try:
            await work
        except (CampaignError, InvalidInputError) as refused:
            if type(refused) is not refusal:
                raise
        else:
            assert apply is not None, refusal
            apply()
            self._look()

    def _known(self, name: str) -> Expected:
        if name not in self.expected:
            raise CampaignNotFoundError(name)
        return self.expected[name]

    def _look(self) -> None:
        for name, known in self.expected.items():
            seen = self._seen.setdefault(name, [])
            if known.status is Status.IN_PROGRESS:
                seen.append((known.plan, known.plan.audience(self.lists)))

    def _definition(self, plan: Plan) -> CampaignSpec:
        segments = [self.id(name) for name in plan.lists]
        channels = {
            "new": a_channel_template(
                id=f"{{{{ receiver.id }}}}-{self.number}", members=(EXTRA_ID,)
            ),
            "rooms": a_channel_template(id="{{ receiver.id }}-room"),
            "unnamed": None,
        }
        return a_spec(
            segment_ids=(*segments, FILTER_SEGMENT_ID) if plan.filtered else tuple(segments),
            user_ids=plan.users,
            message_template=a_message_template(text=plan.template),
            create_channels=plan.way == "new",
            channel_template=channels[plan.way],
        )

    def _outcome(self, plan: Plan, target: str) -> tuple[str, ...]:
        outcome = plan.outcome(target)
        if outcome != SENT:
            return (outcome,)
        room = str(self.number) if plan.way == "new" else "room"
        return (SENT, plan.text(target), f"messaging:{target}-{room}")


async def _handled(connection: AsyncConnection, campaign_id: str) -> dict[str, Handled]:
    messages = await connection.execute(_MESSAGES, {"id": campaign_id})
    outcomes = await connection.execute(_OUTCOMES, {"id": campaign_id})
    return {
        **{
            target: Handled((SENT, text_, cid), (id_, moment))
            for target, text_, cid, id_, moment in messages
        },
        **{target: Handled((reason,), (moment,)) for target, reason, moment in outcomes},
    }


def _assert_follows(before: Campaign | None, change: Campaign) -> None:
    stats = change.stats
    if stats.completed_at is None:
        assert change.status is not Status.COMPLETED
    else:
        assert change.status is Status.COMPLETED
        assert stats.started_at is not None
        assert stats.started_at <= stats.completed_at <= change.updated_at
    if before is None:
        assert (change.status, change.revision) == (Status.DRAFT, 1)
        return
    assert change.revision == before.revision + 1
    assert (before.status, change.status) in STEPS
    assert before.deleted_at is None
    assert change.updated_at >= before.updated_at
    assert change.created_at == before.created_at
    assert before.stats.started_at in (None, stats.started_at)
    assert before.stats.completed_at in (None, stats.completed_at)
    assert before.stats.messages_sent <= stats.messages_sent
    assert before.stats.targets_handled <= stats.targets_handled
