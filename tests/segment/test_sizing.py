"""The worker that counts: at once what is new, again at intervals, by one replica at a time."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from chat_store.database.engine import Database, open_database
from chat_store.errors import StoreUnavailableError
from herald_rpc.wire.fields import timestamp
from herald_rpc.wire.structs import to_struct
from segment_service.sizing import SizingWorker
from segment_service.sql.sizing import SqlSizingStore
from segment_service.sql.targets import SqlTargetStore
from tests.harness.manual_clock import ManualClock
from tests.segment.segment_server import CHANNEL, NOON, SegmentServer
from tests.segment.test_segments import updated

pytestmark = pytest.mark.nightly_on("postgres")

MINUTE = timedelta(minutes=1)


class HeldCounts(SqlTargetStore):
    """Counts only when it is let; tells when it was asked to."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def count(self, segment_ids: Sequence[str], sender_id: str) -> int:
        self.asked.set()
        size = await super().count(segment_ids, sender_id)
        await self.go_on.wait()
        return size


def held(service: SegmentServer) -> tuple[SizingWorker, HeldCounts]:
    targets = HeldCounts(service.database)
    counting = SqlSizingStore(service.database)
    return SizingWorker(counting, targets, service.clock, MINUTE), targets


async def all_counted(worker: SizingWorker) -> int:
    counted = 0
    while await worker.run_once():
        counted += 1
    return counted


async def test_new_segments_with_a_filter_or_all_users_are_counted(service: SegmentServer) -> None:
    await service.people(["anna", "bert"], country="USA")
    await service.people(["carl"], country="DE")
    everyone, matching = await service.all_users(), await service.matching({"country": "USA"})
    before = await service.get(everyone)
    service.clock.move(1)

    assert await all_counted(service.sizing()) == 2

    assert not before.HasField("size_updated_at")
    assert [(await service.get(id_)).size for id_ in (everyone, matching)] == [3, 2]
    assert (await service.get(everyone)).size_updated_at == timestamp(service.clock())
    assert (await service.get(everyone)).updated_at == before.updated_at


async def test_a_channel_filter_is_counted(service: SegmentServer) -> None:
    await service.channel("messaging:a", team="red")
    id_ = await service.matching({"team": "red"}, CHANNEL)

    await all_counted(service.sizing())

    assert (await service.get(id_)).size == 1


async def test_lists_and_a_senders_channels_are_never_counted(service: SegmentServer) -> None:
    await service.channel("messaging:a", ["anna"])
    listing, senders = await service.listing("anna"), await service.senders_channels()
    before = [await service.get(id_) for id_ in (listing, senders)]
    service.clock.move(3600)

    assert await all_counted(service.sizing()) == 0

    assert [await service.get(id_) for id_ in (listing, senders)] == before
    assert before[1].size == 0


async def test_a_size_is_refreshed_after_each_interval_and_not_before(
    service: SegmentServer,
) -> None:
    id_ = await service.all_users()
    worker = service.sizing(MINUTE)
    await all_counted(worker)
    await service.people(["anna"])

    service.clock.move(59)
    assert await all_counted(worker) == 0
    assert (await service.get(id_)).size == 0

    service.clock.move(1)
    assert await all_counted(worker) == 1
    assert (await service.get(id_)).size == 1


async def test_a_new_filter_is_counted_at_once_and_keeps_the_old_size_until_then(
    service: SegmentServer,
) -> None:
    await service.people(["anna", "bert"], country="USA")
    await service.people(["carl"], country="DE")
    id_ = await service.matching({"country": "USA"})
    await all_counted(service.sizing())

    changed = await updated(service, id=id_, filter=to_struct({"country": "DE"}))
    assert changed.size == 2

    assert await all_counted(service.sizing()) == 1
    assert (await service.get(id_)).size == 1


async def test_a_new_name_is_no_reason_to_count(service: SegmentServer) -> None:
    id_ = await service.all_users()
    await all_counted(service.sizing())

    await updated(service, id=id_, name="everyone")

    assert await all_counted(service.sizing()) == 0


async def test_a_deleted_segment_is_not_counted(service: SegmentServer) -> None:
    id_ = await service.all_users()
    await service.delete(id_)

    assert await all_counted(service.sizing()) == 0


async def test_two_replicas_never_count_the_same_at_once(
    service: SegmentServer,
) -> None:
    await service.all_users()
    worker, targets = held(service)
    replica = open_database(service.url)
    other = SizingWorker(SqlSizingStore(replica), SqlTargetStore(replica), service.clock, MINUTE)

    async with asyncio.TaskGroup() as group:
        counting = group.create_task(worker.run_once())
        await targets.asked.wait()
        assert not await other.run_once()
        targets.go_on.set()
    await replica.close()

    assert counting.result()


async def test_many_workers_share_what_is_due(service: SegmentServer) -> None:
    for _ in range(6):
        await service.all_users()
    replica = open_database(service.url)
    workers = [
        SizingWorker(SqlSizingStore(database), SqlTargetStore(database), service.clock, MINUTE)
        for database in (service.database, replica)
        for _ in range(2)
    ]

    counted = await asyncio.gather(*(all_counted(worker) for worker in workers))
    counted.append(await all_counted(workers[0]))
    await replica.close()

    assert sum(counted) == 6


async def test_what_a_crashed_replica_was_counting_is_counted_by_another(
    service: SegmentServer,
) -> None:
    await service.people(["anna"])
    id_ = await service.all_users()
    # claimed, and never heard of again
    now = service.clock()
    assert await SqlSizingStore(service.database).claim(now, now + timedelta(minutes=2))

    assert await all_counted(service.sizing()) == 0
    service.clock.move(120)
    assert await all_counted(service.sizing()) == 1
    assert (await service.get(id_)).size == 1


async def test_a_count_of_an_old_filter_is_not_written(service: SegmentServer) -> None:
    await service.people(["anna", "bert"], country="USA")
    await service.people(["carl"], country="DE")
    id_ = await service.matching({"country": "USA"})
    claim = await SqlSizingStore(service.database).claim(service.clock(), service.clock() + MINUTE)
    assert claim

    await updated(service, id=id_, filter=to_struct({"country": "DE"}))
    await SqlSizingStore(service.database).finish(claim, 2, service.clock(), service.clock())

    assert not (await service.get(id_)).HasField("size_updated_at")
    assert await all_counted(service.sizing()) == 1
    assert (await service.get(id_)).size == 1


async def test_a_count_that_lost_its_claim_is_not_written(service: SegmentServer) -> None:
    await service.people(["anna"])
    id_ = await service.all_users()
    store = SqlSizingStore(service.database)
    slow = await store.claim(service.clock(), service.clock() + MINUTE)
    assert slow
    service.clock.move(61)
    await all_counted(service.sizing())

    await store.finish(slow, 99, service.clock(), service.clock())

    assert (await service.get(id_)).size == 1


async def test_a_new_name_does_not_void_the_count_under_way(service: SegmentServer) -> None:
    await service.people(["anna"])
    id_ = await service.all_users()
    worker, targets = held(service)

    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run_once())
        await targets.asked.wait()
        await updated(service, id=id_, name="everyone")
        targets.go_on.set()

    assert (await service.get(id_)).size == 1


async def test_a_segment_that_is_deleted_while_it_is_counted_stays_as_it_was(
    service: SegmentServer,
) -> None:
    await service.people(["anna"])
    id_ = await service.all_users()
    worker, targets = held(service)

    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run_once())
        await targets.asked.wait()
        await service.delete(id_)
        targets.go_on.set()

    assert (await service.get(id_)).size == 0
    assert await all_counted(service.sizing()) == 0


async def test_a_count_that_is_cut_off_is_due_again_at_once(service: SegmentServer) -> None:
    await service.people(["anna"])
    id_ = await service.all_users()
    worker, targets = held(service)

    counting = asyncio.create_task(worker.run(asyncio.Event()))
    await targets.asked.wait()
    counting.cancel()
    await asyncio.wait([counting])

    assert await all_counted(service.sizing()) == 1
    assert (await service.get(id_)).size == 1


async def test_one_segment_that_can_not_be_counted_does_not_hold_up_the_others(
    service: SegmentServer,
) -> None:
    class Poisoned(SqlTargetStore):
        async def count(self, segment_ids: Sequence[str], sender_id: str) -> int:
            if segment_ids == [poisoned]:
                raise ZeroDivisionError
            return await super().count(segment_ids, sender_id)

    await service.people(["anna"])
    poisoned, sound = await service.all_users(), await service.all_users()
    worker = SizingWorker(
        SqlSizingStore(service.database), Poisoned(service.database), service.clock, MINUTE
    )

    assert await all_counted(worker) == 2

    assert (await service.get(sound)).size == 1


async def test_the_worker_goes_on_when_the_database_is_back(service: SegmentServer) -> None:
    class OutFor(SqlSizingStore):
        outages = 2

        async def claim(self, *_: object) -> None:
            if self.outages:
                self.outages -= 1
                raise StoreUnavailableError
            stop.set()

    stop = asyncio.Event()
    worker = SizingWorker(
        OutFor(service.database), SqlTargetStore(service.database), ManualClock(NOON), MINUTE
    )

    await asyncio.wait_for(worker.run(stop), 30)


async def test_the_worker_outlasts_what_nobody_foresaw_and_is_not_well_meanwhile(
    service: SegmentServer,
) -> None:
    class BrokenTwice(SqlSizingStore):
        async def claim(self, *_: object) -> None:
            health.append(worker.is_well)
            if len(health) < 3:
                raise ZeroDivisionError
            stop.set()

    health: list[bool] = []
    stop = asyncio.Event()
    worker = SizingWorker(
        BrokenTwice(service.database), SqlTargetStore(service.database), ManualClock(NOON), MINUTE
    )

    await worker.run(stop)

    assert health == [True, False, False]
    assert worker.is_well
