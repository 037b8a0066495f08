"""Leases and pages in the database: one holder a shard, all of a page or nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.errors import RunEndedError
from campaign_service.campaigns.model import Campaign, Status
from campaign_service.campaigns.outcomes import NotSent, Reason
from campaign_service.planning.page import PageBuilder, PlannedPage
from campaign_service.planning.routing import Route
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.locks import lock_exclusively, lock_shared
from campaign_service.storage.ports import Lease
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.tables import campaign_outcomes, campaign_shards, campaigns
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.bulk.prepared import prepared_once
from chat_store.database.engine import Database, open_database
from chat_store.errors import StalePageError
from chat_store.models import ChannelState, PickedChannel
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import channels, members, messages
from chat_store.store import ChannelDraft
from segment_service.segments import SegmentSpec, SegmentType
from segment_service.sql.segments import SqlSegmentStore
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_campaign,
    a_channel,
    a_compiled_campaign,
    a_spec,
    a_user,
)
from tests.harness.lock_waiters import wait_for_waiters

LEASE_TIME = timedelta(seconds=10)
UNTIL = MOMENT + LEASE_TIME
MINUTE = timedelta(minutes=1)
LATER = MOMENT + MINUTE


async def started(
    database: Database, id_: str = "spring", *, shards: int = 1, **changes: Any
) -> None:
    spec = a_spec(**changes)
    await SqlCampaignStore(database).create(id_, spec, MOMENT, to_channels=False)
    await SqlTransitionStore(database, shards=shards).start(id_, 2, MOMENT)


async def claimed(runs: SqlRunStore, owner: str = "one") -> Lease:
    lease = await runs.claim(owner, MOMENT, UNTIL)
    assert lease is not None
    return lease


def a_page(
    *targets: str,
    campaign_id: str = "spring",
    not_sent: Sequence[NotSent] = (),
    known: Collection[str] = (),
) -> PlannedPage:
    """Each target in a channel of the target's name, which is made unless it is known."""
    draft = PageBuilder(a_compiled_campaign(a_campaign(id=campaign_id)), MOMENT)
    draft.skip(list(not_sent))
    for target in targets:
        address = Route(target, f"messaging:{target}", {"name": target}, target)
        channel = PickedChannel(address.cid, ChannelState.OPEN, ())
        draft.add(address, channel if target in known else None)
    return draft.build()


async def campaign_in(database: Database, id_: str = "spring") -> Campaign:
    return await SqlCampaignStore(database).get(id_)


async def contents(database: Database) -> dict[str, Any]:
    """How many rows there are of what a page writes, and the shards as they are."""
    tables = (channels, members, messages, campaign_outcomes)
    async with database.snapshot() as connection:
        counts: dict[str, Any] = {
            table.name: await connection.scalar(select(func.count()).select_from(table))
            for table in tables
        }
        shards = (await connection.execute(select(campaign_shards))).all()
    return {**counts, "shards": [tuple(shard) for shard in shards]}


# --- claims


async def test_a_claim_takes_a_shard_with_its_cursor(database: Database) -> None:
    await started(database, shards=2)
    runs = SqlRunStore(database)

    leases = [await runs.claim("one", MOMENT, UNTIL) for _ in range(3)]

    assert leases == [
        Lease("spring", 0, 2, fence=1, cursor="", pass_number=1, audience_version=""),
        Lease("spring", 1, 2, fence=1, cursor="", pass_number=1, audience_version=""),
        None,
    ]


@pytest.mark.parametrize("analyzed", [False, True], ids=["fresh", "analyzed"])
async def test_claims_at_the_same_time_take_each_shard_once(
    database: Database, *, analyzed: bool
) -> None:
    for number in range(4):
        await started(database, f"c{number}", shards=3)
    if analyzed:
        async with database.transaction() as connection:
            await connection.execute(text("ANALYZE"))
    runs = SqlRunStore(database)

    taken: list[Lease] = []
    for _ in range(4):
        found = await asyncio.gather(*(runs.claim(f"o{i}", MOMENT, UNTIL) for i in range(6)))
        taken += [lease for lease in found if lease is not None]

    assert sorted((lease.campaign_id, lease.shard) for lease in taken) == [
        (f"c{number}", shard) for number in range(4) for shard in range(3)
    ]


async def test_only_campaigns_in_progress_have_shards_to_claim(database: Database) -> None:
    store = SqlCampaignStore(database)
    await store.create("draft", a_spec(), MOMENT, to_channels=False)
    await started(database, "stopped")
    await SqlTransitionStore(database, shards=1).stop("stopped", "enough", MOMENT)

    assert await SqlRunStore(database).claim("one", MOMENT, UNTIL) is None


async def test_the_campaign_that_started_first_is_claimed_first(database: Database) -> None:
    store = SqlCampaignStore(database)
    for id_, moment in (("a", LATER), ("b", MOMENT)):
        await store.create(id_, a_spec(), MOMENT, to_channels=False)
        await SqlTransitionStore(database, shards=1).start(id_, 2, moment)

    lease = await claimed(SqlRunStore(database))

    assert lease.campaign_id == "b"


async def test_a_lease_that_ran_out_can_be_claimed_and_its_old_holder_is_refused(
    database: Database,
) -> None:
    await started(database)
    runs = SqlRunStore(database)
    old = await claimed(runs)
    await runs.commit_page(old, a_page("ann"), "after ann")
    assert await runs.claim("two", UNTIL, LATER) is None

    new = await runs.claim("two", UNTIL + timedelta(seconds=1), LATER)

    assert new == replace(old, fence=2, cursor="after ann")
    before = await contents(database)
    for write in (
        runs.commit_page(old, a_page("bob"), "after bob"),
        runs.renew(old, LATER),
        runs.begin_pass(old),
        runs.finish_pass(old, LATER),
        runs.abort(old, "late", LATER),
    ):
        with pytest.raises(RunEndedError):
            await write
    await runs.release(old)
    assert await contents(database) == before
    assert (await campaign_in(database)).status is Status.IN_PROGRESS


async def test_a_renewed_lease_lasts_longer(database: Database) -> None:
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)

    await runs.renew(lease, LATER)

    assert await runs.claim("two", UNTIL + timedelta(seconds=1), LATER) is None
    assert await runs.claim("two", LATER + timedelta(seconds=1), LATER + MINUTE) is not None


async def test_a_released_shard_can_be_claimed_at_once(database: Database) -> None:
    await started(database)
    runs = SqlRunStore(database)

    await runs.release(await claimed(runs))

    assert (await claimed(runs, "two")).fence == 2


async def test_a_shard_can_be_released_for_later(database: Database) -> None:
    await started(database)
    runs = SqlRunStore(database)

    await runs.release(await claimed(runs), claimable_from=LATER)

    assert await runs.claim("two", LATER - timedelta(seconds=1), LATER) is None
    after = LATER + timedelta(seconds=1)
    assert await runs.claim("two", after, after + LEASE_TIME) is not None


# --- shards whose pages would all fail


async def test_a_campaign_stops_when_each_of_its_shards_has_met_a_page_that_would_fail(
    database: Database,
) -> None:
    """Also while a sender tries one of them again, because that may go on for ever."""
    await started(database, shards=3)
    runs = SqlRunStore(database)
    first, second, third = [await claimed(runs) for _ in range(3)]

    assert not await runs.abort_unless_others_send(first, "first", MOMENT, MOMENT - MINUTE)
    assert not await runs.abort_unless_others_send(second, "second", MOMENT, MOMENT)
    again = await claimed(runs)
    assert again.shard == first.shard
    assert await runs.abort_unless_others_send(third, "third", MOMENT, MOMENT)

    campaign = await campaign_in(database)
    assert (campaign.status, campaign.status_reason) == (Status.STOPPED, "third")


async def test_a_shard_that_writes_a_page_no_longer_counts_as_one_that_fails(
    database: Database,
) -> None:
    await started(database, shards=2)
    runs = SqlRunStore(database)
    first, second = [await claimed(runs) for _ in range(2)]
    assert not await runs.abort_unless_others_send(first, "first", MOMENT, MOMENT - MINUTE)
    again = await claimed(runs)
    gone = NotSent("ann", Reason.USER_NOT_FOUND)

    await runs.commit_page(again, a_page(not_sent=[gone]), "ann")

    assert not await runs.abort_unless_others_send(second, "second", MOMENT, MOMENT)


async def test_a_shard_that_fails_is_claimed_after_those_that_were_not_tried(
    database: Database,
) -> None:
    """Otherwise a busy machine tries the first shards again and again, and never the last."""
    await started(database, shards=3)
    runs = SqlRunStore(database)
    first = await claimed(runs)
    assert not await runs.abort_unless_others_send(first, "first", MOMENT, MOMENT - MINUTE)

    leases = [await runs.claim("one", MOMENT, UNTIL) for _ in range(3)]

    assert [lease.shard for lease in leases if lease] == [1, 2, 0]


async def test_a_resumed_campaign_tries_each_shard_again(database: Database) -> None:
    await started(database, shards=2)
    runs = SqlRunStore(database)
    first, second = [await claimed(runs) for _ in range(2)]
    assert not await runs.abort_unless_others_send(first, "first", MOMENT, MOMENT)
    assert await runs.abort_unless_others_send(second, "second", MOMENT, MOMENT)

    await SqlTransitionStore(database, shards=2).start("spring", 2, MOMENT)
    first, second = [await claimed(runs) for _ in range(2)]

    assert not await runs.abort_unless_others_send(first, "first", MOMENT, MOMENT)


# --- pages


async def test_a_page_is_written_whole(database: Database) -> None:
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    not_sent = [NotSent("x", Reason.USER_DELETED), NotSent("y", Reason.TEMPLATE_ERROR)]

    await runs.commit_page(lease, a_page("ann", "bob", not_sent=not_sent), "after bob")

    found = await contents(database)
    assert (found["messages"], found["channels"], found["members"]) == (2, 2, 4)
    stats = (await campaign_in(database)).stats
    assert (stats.messages_sent, stats.channels_created) == (2, 2)
    assert (stats.targets_skipped, stats.targets_failed) == (1, 1)
    async with database.snapshot() as connection:
        outcomes = (await connection.execute(select(campaign_outcomes))).all()
        cursor = await connection.scalar(select(campaign_shards.c.cursor))
    assert cursor == "after bob"
    assert sorted(tuple(row) for row in outcomes) == [
        ("spring", "x", "skipped", "user_deleted", MOMENT, None),
        ("spring", "y", "failed", "template_error", MOMENT, None),
    ]


async def test_counters_grow_with_each_page(database: Database) -> None:
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)

    for target in ("ann", "bob", "carl"):
        skipped = [NotSent(f"no-{target}", Reason.USER_NOT_FOUND)]
        await runs.commit_page(lease, a_page(target, not_sent=skipped), target)

    stats = (await campaign_in(database)).stats
    assert (stats.messages_sent, stats.targets_skipped, stats.targets_failed) == (3, 3, 0)


async def test_an_empty_page_moves_the_cursor_alone(database: Database) -> None:
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)

    await runs.commit_page(lease, a_page(), "further")

    found = await contents(database)
    assert (found["messages"], found["channels"]) == (0, 0)
    await runs.release(lease)
    assert (await claimed(runs)).cursor == "further"


async def _message_is_there(database: Database) -> None:
    other = a_page("bob", known=["bob"])
    async with database.transaction() as connection:
        await connection.execute(
            messages.insert().values(
                **{name: values[0] for name, values in other.rows.messages.items()},
                **{"custom": {}, "attachments": [], **other.rows.message_constants},
            )
        )


async def _message_with_another_id_is_there(database: Database) -> None:
    await _message_is_there(database)
    async with database.transaction() as connection:
        await connection.execute(update(messages).values(id="another"))


async def _channel_is_there(database: Database) -> None:
    chat = sql_chat_store(database)
    await chat.users.upsert([a_user("bob")], MOMENT)
    await chat.channels.upsert([ChannelDraft(a_channel("bob"))], MOMENT)


@pytest.mark.parametrize(
    "happens",
    [_message_is_there, _message_with_another_id_is_there, _channel_is_there],
    ids=["message", "message with another id", "channel"],
)
async def test_a_page_that_finds_its_message_or_channel_there_leaves_nothing(
    database: Database, happens: Callable[[Database], Awaitable[None]]
) -> None:
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    await happens(database)
    before = await contents(database)
    page = a_page("ann", "bob", not_sent=[NotSent("x", Reason.USER_DELETED)])

    with pytest.raises(StalePageError):
        await runs.commit_page(lease, page, "after bob")

    assert await contents(database) == before


async def test_the_same_target_may_be_in_two_campaigns(database: Database) -> None:
    await started(database, "spring")
    await started(database, "summer")
    runs = SqlRunStore(database)
    first, second = [await claimed(runs) for _ in range(2)]

    await runs.commit_page(first, a_page("ann", campaign_id=first.campaign_id), "c")
    await runs.commit_page(
        second, a_page("ann", campaign_id=second.campaign_id, known=["ann"]), "c"
    )

    assert (await contents(database))["messages"] == 2
    chat = sql_chat_store(database)
    assert (await chat.channels.get("messaging:ann")).message_count == 2


async def test_who_has_an_outcome_is_known(database: Database) -> None:
    await started(database, "spring")
    await started(database, "summer")
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    not_sent = [NotSent("x", Reason.USER_DELETED), NotSent("y", Reason.TEMPLATE_ERROR)]
    await runs.commit_page(lease, a_page("ann", not_sent=not_sent), "c")
    everyone = ["ann", "bob", "x", "y", "z"]

    assert set(await runs.targets_with_outcome("spring", everyone)) == {"ann", "x", "y"}
    assert set(await runs.targets_with_outcome("summer", everyone)) == set()
    assert set(await runs.targets_with_outcome("spring", [])) == set()


# --- stop and resume


async def test_a_page_of_a_stopped_campaign_is_refused_and_writes_nothing(
    database: Database,
) -> None:
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    await SqlTransitionStore(database, shards=1).stop("spring", "enough", LATER)
    before = await contents(database)

    with pytest.raises(RunEndedError):
        await runs.commit_page(lease, a_page("ann"), "after ann")
    with pytest.raises(RunEndedError):
        await runs.finish_pass(lease, LATER)

    assert await contents(database) == before
    campaign = await campaign_in(database)
    assert (campaign.status, campaign.status_reason) == (Status.STOPPED, "enough")


async def test_a_resumed_campaign_can_be_claimed_at_once_from_where_it_was(
    database: Database,
) -> None:
    await started(database)
    store, runs = SqlTransitionStore(database, shards=1), SqlRunStore(database)
    lease = await claimed(runs)
    await runs.commit_page(lease, a_page("ann"), "after ann")
    await store.stop("spring", "enough", MOMENT)
    await store.start("spring", 2, MOMENT)

    resumed = await claimed(runs, "two")

    assert resumed.cursor == "after ann"
    assert (await campaign_in(database)).stats.messages_sent == 1


async def test_a_page_planned_before_a_stop_is_refused_after_the_resume(
    database: Database,
) -> None:
    """What it was planned from may have been edited in between."""
    await started(database)
    store, runs = SqlTransitionStore(database, shards=1), SqlRunStore(database)
    lease = await claimed(runs)
    await store.stop("spring", "enough", MOMENT)
    await store.start("spring", 2, MOMENT)

    with pytest.raises(RunEndedError):
        await runs.commit_page(lease, a_page("ann"), "after ann")

    assert (await contents(database))["messages"] == 0


async def test_starting_twice_changes_nothing(database: Database) -> None:
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    before = await campaign_in(database), await contents(database)

    await SqlTransitionStore(database, shards=1).start("spring", 99, LATER)

    assert (await campaign_in(database), await contents(database)) == before
    await runs.commit_page(lease, a_page("ann"), "after ann")


async def hold_still(connection: AsyncConnection, database: Database, campaign_id: str) -> None:
    """As a page that is being written does."""
    for write in lock_shared(database.dialect, campaign_id):
        statement = prepared_once(write.statement, connection.dialect)
        await connection.exec_driver_sql(statement.text, statement.bound(write.parameters))


async def test_a_stop_waits_for_the_page_in_flight(postgres_url: str) -> None:
    database = open_database(postgres_url)
    await started(database)
    lease = await claimed(SqlRunStore(database))

    async with database.transaction() as page_in_flight:
        await hold_still(page_in_flight, database, lease.campaign_id)
        stopping = asyncio.create_task(
            SqlTransitionStore(database, shards=1).stop("spring", "enough", LATER)
        )
        await wait_for_waiters(database, stopping)
        assert not stopping.done()
        assert (await campaign_in(database)).status is Status.IN_PROGRESS

    await stopping
    assert (await campaign_in(database)).status is Status.STOPPED
    await database.close()


async def test_pages_share_the_campaign(postgres_url: str) -> None:
    database = open_database(postgres_url)
    await started(database, shards=2)
    runs = SqlRunStore(database)
    await claimed(runs)
    second = await claimed(runs)

    async with database.transaction() as page_in_flight:
        await hold_still(page_in_flight, database, "spring")
        await runs.commit_page(second, a_page("ann"), "after ann")

    assert (await campaign_in(database)).stats.messages_sent == 1
    await database.close()


async def test_a_page_that_comes_after_a_stop_began_to_wait_is_refused(postgres_url: str) -> None:
    """A steady stream of pages can't keep a stop waiting."""
    database = open_database(postgres_url)
    await started(database, shards=2)
    runs = SqlRunStore(database)
    await claimed(runs)
    second = await claimed(runs)

    async with database.transaction() as page_in_flight:
        await hold_still(page_in_flight, database, "spring")
        stopping = asyncio.create_task(
            SqlTransitionStore(database, shards=1).stop("spring", "enough", LATER)
        )
        await wait_for_waiters(database, stopping)
        next_page = asyncio.create_task(runs.commit_page(second, a_page("ann"), "after ann"))
        await wait_for_waiters(database, stopping, next_page)
        assert not next_page.done()

    await stopping
    with pytest.raises(RunEndedError):
        await next_page
    assert (await contents(database))["messages"] == 0
    await database.close()


async def test_other_campaigns_do_not_wait_for_a_stop(postgres_url: str) -> None:
    database = open_database(postgres_url)
    await started(database, "spring")
    await started(database, "summer")
    runs = SqlRunStore(database)
    leases = {lease.campaign_id: lease for lease in [await claimed(runs), await claimed(runs)]}

    async with database.transaction() as stop_in_flight:
        await lock_exclusively(stop_in_flight, database.dialect, "spring")
        page = a_page("ann", campaign_id="summer")
        await runs.commit_page(leases["summer"], page, "after ann")

    assert (await campaign_in(database, "summer")).stats.messages_sent == 1
    await database.close()


# --- the end of a run


async def finished(runs: SqlRunStore, lease: Lease) -> None:
    await runs.begin_pass(lease)
    await runs.finish_pass(lease, LATER)


async def test_a_campaign_is_completed_when_all_of_its_shards_are_done(
    database: Database,
) -> None:
    await started(database, shards=2)
    runs = SqlRunStore(database)
    first, second = [await claimed(runs) for _ in range(2)]
    await runs.commit_page(first, a_page("ann"), "c")
    skipped = [NotSent("x", Reason.USER_DELETED), NotSent("y", Reason.MESSAGE_TOO_LONG)]
    await runs.commit_page(second, a_page("bob", not_sent=skipped), "c")

    await finished(runs, first)
    assert (await campaign_in(database)).status is Status.IN_PROGRESS
    await finished(runs, second)

    campaign = await campaign_in(database)
    assert (campaign.status, campaign.status_reason) == (Status.COMPLETED, "")
    assert campaign.stats.completed_at == LATER
    # two were counted at the start
    assert campaign.stats.targets_total == campaign.stats.targets_handled == 4
    assert campaign.revision == 3


async def test_a_finished_shard_is_not_claimed_again(database: Database) -> None:
    await started(database, shards=2)
    runs = SqlRunStore(database)
    first = await claimed(runs)
    await finished(runs, first)

    assert (await claimed(runs)).shard == 1
    assert await runs.claim("two", MOMENT, UNTIL) is None


async def test_shards_that_set_out_with_another_audience_walk_once_more(
    database: Database,
) -> None:
    segments = SqlSegmentStore(database)
    await segments.create("list", SegmentSpec(type=SegmentType.USER), MOMENT)
    await started(database, shards=2, user_ids=(), segment_ids=("list",))
    runs = SqlRunStore(database)
    first, second = [await claimed(runs) for _ in range(2)]
    await runs.begin_pass(first)
    await runs.commit_page(first, a_page("ann"), "c")

    await segments.add_targets("list", ["bob"], MOMENT)
    await runs.begin_pass(second)
    await runs.finish_pass(first, LATER)
    await runs.finish_pass(second, LATER)

    again = await claimed(runs)
    assert again == replace(first, fence=2, cursor="", pass_number=2, audience_version="0")
    assert await runs.claim("two", MOMENT, UNTIL) is None
    await finished(runs, again)
    assert (await campaign_in(database)).status is Status.COMPLETED


async def test_an_empty_audience_completes(database: Database) -> None:
    await started(database)
    runs = SqlRunStore(database)

    await finished(runs, await claimed(runs))

    campaign = await campaign_in(database)
    assert (campaign.status, campaign.stats.targets_total) == (Status.COMPLETED, 0)
    assert campaign.stats.progress == 1.0


async def test_an_aborted_run_is_stopped_with_its_reason(database: Database) -> None:
    await started(database, shards=2)
    runs = SqlRunStore(database)
    first, second = [await claimed(runs) for _ in range(2)]
    await runs.commit_page(first, a_page("ann"), "c")

    await runs.abort(first, "segment 'vips' is not available", LATER)

    campaign = await campaign_in(database)
    assert campaign.status is Status.STOPPED
    assert campaign.status_reason == "segment 'vips' is not available"
    assert campaign.updated_at == LATER
    with pytest.raises(RunEndedError):
        await runs.commit_page(second, a_page("bob"), "c")
    with pytest.raises(RunEndedError):
        await runs.abort(second, "another reason", LATER)
    assert (await campaign_in(database)).status_reason == "segment 'vips' is not available"


@pytest.mark.parametrize(
    "end",
    [
        lambda runs, lease, now: runs.finish_pass(lease, now),
        lambda runs, lease, now: runs.abort(lease, "", now),
    ],
    ids=["finish_pass", "abort"],
)
async def test_an_end_by_a_clock_that_is_behind_is_no_older_than_the_start(
    database: Database, end: Callable[[SqlRunStore, Lease, datetime], Awaitable[None]]
) -> None:
    await started(database)
    runs = SqlRunStore(database)

    await end(runs, await claimed(runs), MOMENT - MINUTE)

    campaign = await campaign_in(database)
    assert campaign.status is not Status.IN_PROGRESS
    assert campaign.updated_at == MOMENT
    assert campaign.stats.completed_at in (None, MOMENT)


async def test_a_campaign_in_progress_can_tell_what_it_waits_for(database: Database) -> None:
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    before = await campaign_in(database)

    await runs.set_status_reason(lease, "waiting")
    assert await campaign_in(database) == replace(before, status_reason="waiting")

    await runs.set_status_reason(lease, "")
    assert await campaign_in(database) == before


async def test_a_sender_that_was_replaced_explains_nothing_any_more(database: Database) -> None:
    await started(database)
    runs = SqlRunStore(database)
    late = await claimed(runs)
    await runs.set_status_reason(late, "waiting")
    successor = await runs.claim("next", LATER, LATER + MINUTE)
    assert successor is not None

    await runs.set_status_reason(successor, "")
    await runs.set_status_reason(late, "waiting")

    assert (await campaign_in(database)).status_reason == ""


async def test_a_stopped_campaign_keeps_its_reason(database: Database) -> None:
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    await SqlTransitionStore(database, shards=1).stop("spring", "enough", LATER)

    await runs.set_status_reason(lease, "waiting")

    assert (await campaign_in(database)).status_reason == "enough"


async def test_a_campaign_that_is_being_stopped_keeps_its_reason(postgres_url: str) -> None:
    database = open_database(postgres_url)
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)

    async with database.transaction() as stop_in_flight:
        await _stop(stop_in_flight, database)
        explaining = asyncio.create_task(runs.set_status_reason(lease, "waiting"))
        await wait_for_waiters(database, explaining)
        assert not explaining.done()

    await explaining
    assert (await campaign_in(database)).status_reason == "enough"
    await database.close()


async def _stop(connection: AsyncConnection, database: Database) -> None:
    await lock_exclusively(connection, database.dialect, "spring")
    await connection.execute(
        update(campaigns).values(status=Status.STOPPED, status_reason="enough")
    )


async def test_the_sender_joins_a_page_of_existing_channels_once(database: Database) -> None:
    """Two messages of a page may go to one channel, and the sender may be in it already."""
    chat = sql_chat_store(database)
    await chat.users.upsert([a_user(SENDER_ID), a_user("ann")], MOMENT)
    channel = a_channel("room")
    await chat.channels.upsert([ChannelDraft(channel, ["ann"])], MOMENT)
    await started(database)
    runs = SqlRunStore(database)
    lease = await claimed(runs)
    rows = replace(a_page().rows, sender_joins=[channel.cid], sender_id=SENDER_ID)

    for cursor in ("a", "b"):
        await runs.commit_page(lease, replace(a_page(), rows=rows), cursor)

    assert (await chat.channels.get(channel.cid)).member_count == 2
    assert (await contents(database))["members"] == 2
