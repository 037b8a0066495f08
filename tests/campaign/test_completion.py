"""The end of a campaign beside changes of its lists: none of them is lost between the two."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.errors import ReferenceGoneError
from campaign_service.campaigns.model import Status
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.ports import Lease
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database import schema
from chat_store.database.engine import Database
from chat_store.sql.audience_versions import raise_version, remove_version
from chat_store.sql.stores import sql_chat_store
from segment_service.segments import SegmentSpec, SegmentType
from segment_service.sql.segments import SqlSegmentStore
from tests.campaign.builders import MOMENT, a_spec, a_user
from tests.campaign.in_process_replica import (
    LEASE_TIME,
    SHARDS,
    Environment,
    InProcessReplica,
    an_environment,
)
from tests.harness.lock_waiters import wait_for_waiters
from tests.harness.manual_clock import ManualClock
from tests.harness.reconciliation import outcomes

LISTED = ["ann", "bob", "cid"]
LATE = "dan"


class HookedEnd(SqlRunStore):
    """Calls what it is given before the first transaction that would complete the campaign."""

    def __init__(self, database: Database, hook: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(database)
        self._hook = hook
        self._walked = 0

    async def finish_pass(self, lease: Lease, now: datetime) -> None:
        self._walked += 1
        if self._walked == SHARDS:
            await self._hook()
        await super().finish_pass(lease, now)


class HeldEnd(SqlRunStore):
    """Its completing transactions are held up when they have decided to complete."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.reached, self.let_go = asyncio.Event(), asyncio.Event()

    async def _complete(self, *arguments: Any) -> None:
        self.reached.set()
        await self.let_go.wait()
        await super()._complete(*arguments)


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[Environment]:
    """With a campaign that has been started for a list of three."""
    async with an_environment(database_url) as world:
        await _started(world)
        yield world


async def _started(world: Environment) -> None:
    chat = sql_chat_store(world.database)
    await chat.users.upsert([a_user(id_) for id_ in (*LISTED, LATE)], MOMENT)
    await world.create_list("list")
    await world.add_targets("list", LISTED)
    spec = a_spec(user_ids=(), segment_ids=("list",))
    campaigns = SqlCampaignStore(world.database)
    await campaigns.create("spring", spec, MOMENT, to_channels=False)
    await SqlTransitionStore(world.database, shards=SHARDS).start("spring", len(LISTED), MOMENT)


async def sent_by(world: Environment, runs: SqlRunStore | None = None) -> tuple[Status, str]:
    """How the campaign stands after its senders have done all that they can."""
    replica = InProcessReplica(world.database, world.segments, ManualClock(MOMENT), page_size=2)
    await replica.send(runs)
    campaign = await replica.campaigns.get("spring")
    return campaign.status, campaign.status_reason


async def test_a_target_added_between_the_last_page_and_the_end_is_reached(
    world: Environment,
) -> None:
    added = HookedEnd(world.database, lambda: world.add_targets("list", [LATE]))

    assert await sent_by(world, added) == (Status.COMPLETED, "")

    assert set(outcomes(world.url, "spring")) == {*LISTED, LATE}


async def test_a_target_removed_between_the_last_page_and_the_end_keeps_its_outcome(
    world: Environment,
) -> None:
    removed = HookedEnd(world.database, lambda: world.remove_targets("list", LISTED[:1]))

    assert await sent_by(world, removed) == (Status.COMPLETED, "")

    assert set(outcomes(world.url, "spring")) == set(LISTED)


async def test_a_segment_deleted_between_the_last_page_and_the_end_stops_the_campaign(
    world: Environment,
) -> None:
    deleted = HookedEnd(world.database, lambda: world.delete("list"))

    assert await sent_by(world, deleted) == (Status.STOPPED, "segment 'list' is not available")


async def _walked(runs: SqlRunStore) -> Lease:
    """The lease of a shard that only has to be finished for the campaign to be completed."""
    leases = [await runs.claim("one", MOMENT, MOMENT + LEASE_TIME) for _ in range(SHARDS)]
    first, last = [lease for lease in leases if lease]
    for lease in (first, last):
        await runs.begin_pass(lease)
    await runs.finish_pass(first, MOMENT)
    return last


CHANGES: dict[str, Callable[[SqlSegmentStore], Coroutine[Any, Any, Any]]] = {
    "add": lambda segments: segments.add_targets("list", [LATE], MOMENT),
    "remove": lambda segments: segments.remove_targets("list", LISTED[:1], MOMENT),
    "delete": lambda segments: segments.delete("list", MOMENT),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_of_a_list_waits_for_the_transaction_that_completes(
    world: Environment, change: str
) -> None:
    """So that what is answered while the campaign is in progress has been seen by its end."""
    held = HeldEnd(world.database)
    lease = await _walked(held)
    ending = asyncio.create_task(held.finish_pass(lease, MOMENT))
    await held.reached.wait()

    changing = asyncio.create_task(CHANGES[change](SqlSegmentStore(world.other)))
    if world.database.dialect == "postgresql":
        await wait_for_waiters(world.other, changing)
    assert not changing.done()
    held.let_go.set()
    await ending
    await changing

    campaign = await SqlCampaignStore(world.database).get("spring")
    assert campaign.status is Status.COMPLETED


@pytest.mark.parametrize("change", [raise_version, remove_version])
async def test_the_transaction_that_completes_waits_for_a_change_of_a_list_and_sees_it(
    postgres_url: str, change: Callable[[AsyncConnection, str], Awaitable[None]]
) -> None:
    """SQLite's write transactions exclude each other anyway."""
    async with an_environment(postgres_url) as world:
        await _started(world)
        runs = SqlRunStore(world.database)
        lease = await _walked(runs)

        async with world.other.transaction() as changing:
            await change(changing, "list")
            ending = asyncio.create_task(runs.finish_pass(lease, MOMENT))
            await wait_for_waiters(world.other, ending)
            assert not ending.done()

        if change is remove_version:
            with pytest.raises(ReferenceGoneError):
                await ending
        else:
            await ending
        campaign = await SqlCampaignStore(world.database).get("spring")
        assert campaign.status is Status.IN_PROGRESS


async def test_ends_of_campaigns_and_changes_of_their_lists_never_wait_in_a_circle(
    database: Database,
) -> None:
    segments, runs = SqlSegmentStore(database), SqlRunStore(database)
    ids = ("a", "b", "c")
    for id_ in ids:
        await segments.create(id_, SegmentSpec(type=SegmentType.USER), MOMENT)
    for number in range(9):
        # each in another order
        asked = (*ids[number % 3 :], *ids[: number % 3])[:: 1 if number % 2 else -1]
        spec = a_spec(user_ids=(), segment_ids=asked)
        campaigns = SqlCampaignStore(database)
        await campaigns.create(f"c{number}", spec, MOMENT, to_channels=False)
        await SqlTransitionStore(database, shards=1).start(f"c{number}", 0, MOMENT)
    leases = [await runs.claim("one", MOMENT, MOMENT + LEASE_TIME) for _ in range(9)]

    async with asyncio.TaskGroup() as group:
        for number, lease in enumerate(leases):
            assert lease
            await runs.begin_pass(lease)
            group.create_task(runs.finish_pass(lease, MOMENT))
            for id_ in ids:
                group.create_task(segments.add_targets(id_, [f"t{number}"], MOMENT))
                group.create_task(segments.remove_targets(id_, [f"t{number - 1}"], MOMENT))


LATER_TABLES = (
    "audit_pending",
    "audit_log",
    "audit_chain",
    "event_log",
    "event_log_ends",
    "webhooks",
    "webhook_lanes",
    "webhook_attempts",
    "webhook_replays",
    "push_place",
    "campaign_pushes",
    "access_tokens",
)
COLUMNS_OF_DEVICES = ("hardware_id", "disabled", "disabled_reason")
COLUMNS_WITH_AUTHORS = ("created_by", "updated_by")


@pytest.mark.nightly_on("sqlite")
async def test_a_campaign_in_progress_at_the_upgrade_reaches_everybody_and_nobody_twice(
    world: Environment,
) -> None:
    """Before it, versions were times; targets may have been added since the pass began."""
    runs = SqlRunStore(world.database)
    await _walked(runs)
    await world.create_list("deleted")
    await world.delete("deleted")
    await world.add_targets("list", [LATE])
    async with world.server_stopped():
        async with world.database.transaction() as connection:
            if world.database.dialect == "postgresql":
                await connection.execute(
                    text("ALTER INDEX rate_limits_pkey RENAME TO campaign_paces_pkey")
                )
            for statement in (
                *(f"DROP TABLE {table}" for table in LATER_TABLES),
                *(f"ALTER TABLE devices DROP COLUMN {column}" for column in COLUMNS_OF_DEVICES),
                *(
                    f"ALTER TABLE {table} DROP COLUMN {column}"
                    for table in ("segments", "campaigns", "campaign_changes")
                    for column in COLUMNS_WITH_AUTHORS
                ),
                "ALTER TABLE campaign_shards DROP COLUMN pages",
                "ALTER TABLE campaign_shards DROP COLUMN fails",
                "ALTER TABLE rate_limits RENAME TO campaign_paces",
                "ALTER TABLE campaign_paces RENAME COLUMN scheduled_at TO next_at",
                "ALTER TABLE campaign_paces RENAME COLUMN not_before TO soonest_at",
                "DROP VIEW holds",
                "DROP TABLE restore_guard",
                "DROP TABLE campaign_months",
                "DROP TABLE audience_versions",
                "UPDATE alembic_version SET version_num = '0006'",
                "UPDATE campaign_shards SET audience_version = '1772366400000000000'",
                "UPDATE campaign_shards SET lease_until = NULL",
            ):
                await connection.execute(text(statement))
        await world.reopen()

        await schema.migrate(world.database)

    async with world.database.snapshot() as connection:
        found = await connection.execute(text("SELECT * FROM audience_versions ORDER BY 1"))
        assert [tuple(row) for row in found] == [("list", 0), ("matching", 0)]
    assert await sent_by(world) == (Status.COMPLETED, "")
    assert set(outcomes(world.url, "spring")) == {*LISTED, LATE}
