"""A key that a page would write is taken: each target still has one outcome, and the run an end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
from sqlalchemy import Table, delete, insert

from campaign_service.campaigns.ids import message_id, message_id_prefix
from campaign_service.campaigns.invariants import invariants
from campaign_service.campaigns.model import SenderMode, Status
from campaign_service.campaigns.outcomes import Outcome, Reason
from campaign_service.planning.page import PlannedPage
from campaign_service.segment_client import SegmentClient
from campaign_service.sending.claiming import ClaimCoordinator
from campaign_service.sending.sender import Sender, SenderOptions
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.ports import Lease
from campaign_service.storage.recount import recount as recounted
from campaign_service.storage.runs import SqlRunStore
from campaign_service.storage.tables import campaign_outcomes
from campaign_service.storage.transitions import SqlTransitionStore
from chat_store.database.engine import Database
from chat_store.distinct_channels import distinct_channel_id
from chat_store.models import Member, Message
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import channels, members
from chat_store.store import ChannelDraft, ChatStore
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_channel,
    a_channel_template,
    a_spec,
    a_user,
)
from tests.harness.reconciliation import assert_everyone_has_one_outcome, outcomes

pytestmark = pytest.mark.nightly_on("postgresql")

TARGETS = ("ann", "bob", "cal", "dan")
ELSEWHERE = a_channel("elsewhere")
LEASE_TIME = timedelta(seconds=10)

Take = Callable[[Database, ChatStore], Awaitable[None]]


@dataclass(frozen=True)
class Taken:
    """`take` takes a key of bob's part of the page; `outcome` is what bob gets then.

    `by_members`: the campaign has distinct channels. `entering`: its sender enters channels.
    """

    what: str
    take: Take
    outcome: str = "sent"
    by_members: bool = False
    entering: bool = False
    bob_exists: bool = True


def a_message(campaign_id: str | None, target_id: str | None, *, own_id: bool = True) -> Take:
    id_ = message_id(message_id_prefix("spring"), "bob") if own_id else "imported"
    message = Message(
        id=id_,
        cid=ELSEWHERE.cid,
        user_id=SENDER_ID,
        campaign_id=campaign_id,
        target_id=target_id,
    )

    async def take(_: Database, chat: ChatStore) -> None:
        await chat.messages.upsert([message], MOMENT)

    return take


def a_channel_of_bob(*, by_members: bool = False, deleted: bool = False, **changes: Any) -> Take:
    id_ = distinct_channel_id({SENDER_ID, "bob"}) if by_members else f"bob-{SENDER_ID}"
    channel = a_channel(id_, distinct=by_members, **changes)

    async def take(_: Database, chat: ChatStore) -> None:
        await chat.channels.upsert(
            [ChannelDraft(channel, ["bob", SENDER_ID], named_by_members=by_members)], MOMENT
        )
        if deleted:
            await chat.channels.delete([channel.cid], MOMENT)

    return take


def a_membership_of(user_id: str) -> Take:
    async def take(database: Database, _: ChatStore) -> None:
        await put(database, members, a_member(f"messaging:bob-{SENDER_ID}", user_id))

    return take


async def the_senders_place(_: Database, chat: ChatStore) -> None:
    channel = a_channel(f"bob-{SENDER_ID}")
    await chat.channels.upsert([ChannelDraft(channel, ["bob"])], MOMENT)
    await chat.channels.add_members(
        channel.cid, [Member(cid=channel.cid, user_id=SENDER_ID)], MOMENT
    )


async def an_outcome(database: Database, _: ChatStore) -> None:
    row = {
        "campaign_id": "spring",
        "target_id": "bob",
        "outcome": Outcome.SKIPPED,
        "reason": Reason.USER_NOT_FOUND,
        "created_at": MOMENT,
    }
    await put(database, campaign_outcomes, row)


TABLE = [
    Taken("an imported message", a_message(None, None), Reason.MESSAGE_ID_TAKEN),
    Taken("a message of another campaign", a_message("fall", "bob"), Reason.MESSAGE_ID_TAKEN),
    Taken("its own message", a_message("spring", "bob")),
    Taken("its own message by another id", a_message("spring", "bob", own_id=False)),
    Taken("somebody's channel", a_channel_of_bob()),
    Taken("a frozen channel", a_channel_of_bob(frozen=True), Reason.CHANNEL_FROZEN),
    Taken("a deleted channel", a_channel_of_bob(deleted=True), Reason.CHANNEL_NOT_FOUND),
    Taken("a distinct channel", a_channel_of_bob(by_members=True), by_members=True),
    Taken(
        "a deleted distinct channel",
        a_channel_of_bob(by_members=True, deleted=True),
        Reason.CHANNEL_NOT_FOUND,
        by_members=True,
    ),
    Taken("the receiver's membership", a_membership_of("bob")),
    Taken("the sender's membership", a_membership_of(SENDER_ID)),
    Taken("the sender's place", the_senders_place, entering=True),
    Taken("its own outcome", an_outcome, Reason.USER_NOT_FOUND, bob_exists=False),
]


class Rival(SqlRunStore):
    """Takes a key right before the first page is written."""

    def __init__(self, database: Database, take: Take) -> None:
        super().__init__(database)
        self._take: Take | None = take

    async def commit_page(self, lease: Lease, page: PlannedPage, cursor: str) -> None:
        if self._take:
            take, self._take = self._take, None
            await take(self._database, sql_chat_store(self._database))
        await super().commit_page(lease, page, cursor)


class Squatter(SqlRunStore):
    """Takes a channel's CID while each page is written, and is gone when others look."""

    def __init__(self, database: Database, stop: asyncio.Event, stop_after: int = 0) -> None:
        super().__init__(database)
        self.attempts = 0
        self._stop = stop
        self._stop_after = stop_after

    async def commit_page(self, lease: Lease, page: PlannedPage, cursor: str) -> None:
        self.attempts += 1
        if self.attempts == self._stop_after:
            self._stop.set()
        channel = a_channel(f"bob-{SENDER_ID}")
        await sql_chat_store(self._database).channels.upsert([ChannelDraft(channel)], MOMENT)
        try:
            await super().commit_page(lease, page, cursor)
        finally:
            async with self._database.transaction() as connection:
                await connection.execute(delete(channels).where(channels.c.cid == channel.cid))


@pytest.fixture
async def chat(database: Database) -> ChatStore:
    store = sql_chat_store(database)
    await store.users.upsert([a_user(id_) for id_ in (SENDER_ID, *TARGETS)], MOMENT)
    await store.channels.upsert([ChannelDraft(ELSEWHERE)], MOMENT)
    return store


@pytest.fixture
async def no_segments() -> AsyncIterator[SegmentClient]:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        yield SegmentClient(channel)


async def put(database: Database, table: Table, row: dict[str, Any]) -> None:
    async with database.transaction() as connection:
        await connection.execute(insert(table), [row])


def a_member(cid: str, user_id: str) -> dict[str, Any]:
    return {
        "cid": cid,
        "user_id": user_id,
        "channel_role": "channel_member",
        "custom": {},
        "hidden": False,
        "created_at": MOMENT,
    }


async def started(database: Database, **changes: Any) -> None:
    spec = a_spec(user_ids=TARGETS, **changes)
    await SqlCampaignStore(database).create("spring", spec, MOMENT, to_channels=False)
    await SqlTransitionStore(database, shards=1).start("spring", len(TARGETS), MOMENT)


def a_sender(database: Database, segments: SegmentClient, runs: SqlRunStore) -> Sender:
    return Sender(
        SqlCampaignStore(database),
        runs,
        sql_chat_store(database),
        segments,
        SenderOptions("one", page_size=10, lease_time=LEASE_TIME),
        now=lambda: MOMENT,
        coordinator=ClaimCoordinator(asyncio.Semaphore(1)),
    )


@pytest.mark.nightly_on("postgresql")
@pytest.mark.parametrize("before", [True, False], ids=["before the run", "beside a page"])
@pytest.mark.parametrize("taken", TABLE, ids=lambda taken: taken.what)
async def test_a_target_whose_key_is_taken_has_one_outcome_and_so_has_everyone_else(
    database: Database,
    database_url: str,
    chat: ChatStore,
    no_segments: SegmentClient,
    taken: Taken,
    *,
    before: bool,
) -> None:
    if not taken.bob_exists:
        await chat.users.delete(["bob"], MOMENT)
    if before:
        await taken.take(database, chat)
    await started(
        database,
        channel_template=a_channel_template(id="") if taken.by_members else a_channel_template(),
        sender_mode=SenderMode.INCLUDE if taken.entering else None,
    )
    runs = SqlRunStore(database) if before else Rival(database, taken.take)

    await a_sender(database, no_segments, runs).run_once(asyncio.Event())

    assert_everyone_has_one_outcome(database_url, "spring", len(TARGETS))
    expected = dict.fromkeys(TARGETS, "sent") | {"bob": taken.outcome}
    assert outcomes(database_url, "spring") == expected
    assert [
        law.text for law in invariants(await recounted(database, "spring")) if not law.holds
    ] == []


@pytest.mark.usefixtures("chat")
async def test_a_page_that_goes_stale_again_and_again_is_left_for_later_and_says_why(
    database: Database, database_url: str, no_segments: SegmentClient
) -> None:
    await started(database)
    squatter = Squatter(database, asyncio.Event())

    await a_sender(database, no_segments, squatter).run_once(asyncio.Event())

    assert squatter.attempts == 6
    waiting = await SqlCampaignStore(database).get("spring")
    assert (waiting.status, waiting.status_reason) == (
        Status.IN_PROGRESS,
        "retrying: a key that a page would write keeps being taken: the CID of a channel",
    )
    runs = SqlRunStore(database)
    assert await runs.claim("two", MOMENT, MOMENT + LEASE_TIME) is None
    lease = await runs.claim("two", MOMENT + LEASE_TIME, MOMENT + LEASE_TIME)
    assert lease
    await runs.release(lease)
    await a_sender(database, no_segments, runs).run_once(asyncio.Event())
    assert_everyone_has_one_outcome(database_url, "spring", len(TARGETS))
    assert (await SqlCampaignStore(database).get("spring")).status_reason == ""


@pytest.mark.usefixtures("chat")
async def test_a_page_that_goes_stale_is_not_tried_again_once_the_server_stops(
    database: Database, no_segments: SegmentClient
) -> None:
    await started(database)
    stop = asyncio.Event()
    squatter = Squatter(database, stop, stop_after=2)

    await a_sender(database, no_segments, squatter).run_once(stop)

    assert squatter.attempts == 2
    assert await squatter.claim("two", MOMENT, MOMENT + LEASE_TIME)


async def test_the_message_ids_of_others_are_taken_and_a_targets_own_is_not(
    database: Database, chat: ChatStore
) -> None:
    await a_message(None, None)(database, chat)
    await a_message("spring", "ann", own_id=False)(database, chat)
    prefix = message_id_prefix("spring")
    ids = {target: message_id(prefix, target) for target in TARGETS}

    assert await chat.messages.taken("spring", ids) == {"bob"}
    assert await chat.messages.taken("spring", {**ids, "ann": "imported", "cal": "imported"}) == {
        "bob",
        "cal",
    }
