"""Small calls at the same time share a statement and a commit, and none of them notices."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from sqlalchemy import event

from chat_store.database.coalescing import MAX_GROUP, Coalescer
from chat_store.database.engine import Database
from chat_store.errors import StoreUnavailableError, UserNotFoundError
from chat_store.models import Channel, User, WriteMode
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class Work:
    """Doubles numbers, a group each time that the test lets one through."""

    groups: list[list[int]] = field(default_factory=list)
    begun: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    may_end: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    refused: dict[int, Exception] = field(default_factory=dict)
    cancelled: int = 0

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.groups.append(list(numbers))
        self.begun.release()
        try:
            await self.may_end.acquire()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        for number in numbers:
            if number in self.refused:
                raise self.refused[number]
        return [2 * number for number in numbers]

    def let_all_end(self) -> None:
        for _ in range(1_000):
            self.may_end.release()


async def submitted(calls: Coalescer[int, int], *numbers: int) -> list["asyncio.Task[int]"]:
    """The calls, all waiting."""
    tasks = [asyncio.create_task(calls.submit(number)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


async def test_a_call_alone_goes_at_once() -> None:
    work = Work()
    calls = Coalescer(work)
    (one,) = await submitted(calls, 1)
    await work.begun.acquire()
    work.let_all_end()

    assert await one == 2
    assert work.groups == [[1]]


async def test_calls_that_come_meanwhile_go_together_and_each_has_its_own_result() -> None:
    work = Work()
    tasks = await submitted(Coalescer(work), 1, 2, 3, 4)
    work.let_all_end()

    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert work.groups == [[1], [2, 3, 4]]


async def test_a_group_is_bounded() -> None:
    work = Work()
    tasks = await submitted(Coalescer(work), *range(2 * MAX_GROUP))
    work.let_all_end()
    await asyncio.gather(*tasks)

    assert [len(group) for group in work.groups] == [1, MAX_GROUP, MAX_GROUP - 1]


async def test_calls_with_a_key_in_common_are_in_different_groups_and_keep_their_order() -> None:
    work = Work()
    calls = Coalescer(work, keys_of=lambda number: [number % 10])
    tasks = await submitted(calls, 0, 1, 2, 11, 3, 21)
    work.let_all_end()
    await asyncio.gather(*tasks)

    assert work.groups == [[0], [1, 2], [11, 3], [21]]


async def test_calls_of_another_scope_are_in_different_groups() -> None:
    work = Work()
    calls = Coalescer(work, scope_of=lambda number: number > 10)
    tasks = await submitted(calls, 0, 1, 2, 11, 12, 3)
    work.let_all_end()
    await asyncio.gather(*tasks)

    assert work.groups == [[0], [1, 2], [11, 12], [3]]


async def test_a_call_that_is_refused_takes_no_other_along() -> None:
    work = Work(refused={2: ValueError("two")})
    tasks = await submitted(Coalescer(work), 0, 1, 2, 3)
    work.let_all_end()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [repr(result) for result in results] == ["0", "2", "ValueError('two')", "6"]
    assert work.groups == [[0], [1, 2, 3], [1], [2], [3]]


async def test_a_database_that_is_away_is_asked_once_for_a_group() -> None:
    work = Work(refused={2: StoreUnavailableError("away")})
    tasks = await submitted(Coalescer(work), 0, 1, 2)
    work.let_all_end()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [
        int,
        StoreUnavailableError,
        StoreUnavailableError,
    ]
    assert work.groups == [[0], [1, 2]]


async def test_a_caller_that_has_left_before_its_turn_is_left_out() -> None:
    work = Work()
    tasks = await submitted(Coalescer(work), 0, 1, 2)
    tasks[1].cancel()
    await asyncio.wait(tasks[1:2])
    work.let_all_end()

    assert [await tasks[0], await tasks[2]] == [0, 4]
    assert work.groups == [[0], [2]]


async def test_work_ends_with_the_last_of_its_callers_and_the_next_group_follows() -> None:
    work = Work()
    calls = Coalescer(work)
    first, second, third = await submitted(calls, 0, 1, 2)
    await work.begun.acquire()
    work.may_end.release()
    await first
    await work.begun.acquire()
    second.cancel()
    await asyncio.wait([second])
    cancelled_with_the_first = work.cancelled
    (fourth,) = await submitted(calls, 3)
    third.cancel()
    await asyncio.wait([third])
    work.let_all_end()

    assert await fourth == 6
    assert [cancelled_with_the_first, work.cancelled] == [0, 1]
    assert work.groups == [[0], [1, 2], [3]]


# --- on the databases


@pytest.fixture
def commits(database: Database) -> list[object]:
    """One entry for each transaction that writes, as they are committed."""
    committed: list[object] = []
    event.listen(database._write_engine.sync_engine, "commit", committed.append)
    return committed


async def test_many_upserts_of_one_user_are_durable_when_answered_and_share_commits(
    database: Database, commits: list[object]
) -> None:
    users = sql_chat_store(database).users

    async def upserted(number: int) -> tuple[User, User]:
        (answered,) = await users.upsert([User(id=f"u{number}", name=f"n{number}")], NOON)
        # read by other connections: what is not committed is not there
        return answered, (await users.by_id([f"u{number}"]))[f"u{number}"]

    stored = await asyncio.gather(*map(upserted, range(200)))

    assert [answered.name for answered, _ in stored] == [f"n{number}" for number in range(200)]
    assert all(answered == read for answered, read in stored)
    assert len(commits) < 20


async def test_upserts_of_the_same_user_at_once_each_answer_their_own(database: Database) -> None:
    users = sql_chat_store(database).users
    upserts = (users.upsert([User(id="anna", name=str(number))], NOON) for number in range(50))
    answers = await asyncio.gather(*upserts)

    assert [user.name for (user,) in answers] == [str(number) for number in range(50)]
    assert (await users.get("anna")).name == "49"


async def test_inserts_and_replacements_at_once_keep_their_meaning(database: Database) -> None:
    users = sql_chat_store(database).users
    modes = [WriteMode.INSERT, WriteMode.REPLACE] * 10
    answers = await asyncio.gather(
        *(
            users.upsert([User(id="anna", name=str(number))], NOON, mode)
            for number, mode in enumerate(modes)
        )
    )

    # an insert leaves the name that the replacement before it has given
    expected = ["0", *(str(number - (number + 1) % 2) for number in range(1, 20))]
    assert [user.name for (user,) in answers] == expected


async def test_a_channel_that_is_refused_leaves_those_of_other_callers(database: Database) -> None:
    store = sql_chat_store(database)
    await store.users.upsert([User(id="anna")], NOON)

    def created(number: int) -> "asyncio.Task[list[Channel]]":
        member = "anna" if number % 5 else "nobody"
        draft = ChannelDraft(Channel(type="messaging", id=f"c{number}"), (member,))
        return asyncio.create_task(store.channels.upsert([draft], NOON))

    results = await asyncio.gather(*map(created, range(20)), return_exceptions=True)

    refused = [n for n, result in enumerate(results) if isinstance(result, UserNotFoundError)]
    assert refused == [0, 5, 10, 15]
    stored = await store.channels.by_cid(f"messaging:c{number}" for number in range(20))
    assert len(stored) == 16
    assert {channel.member_count for channel in stored.values()} == {1}
