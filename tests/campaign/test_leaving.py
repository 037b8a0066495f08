"""Who has left the audience gets no message, however slowly the campaign goes."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft
from herald.campaign.v1 import campaign_pb2
from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as pb
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_channel, a_user
from tests.campaign.server_pair import ServerPair, start_pair
from tests.harness.reconciliation import (
    assert_consistent,
    assert_everyone_has_one_outcome,
    count_messages,
    outcomes,
    recount,
)

pytestmark = pytest.mark.nightly_on("postgresql")

RATE = 20
# four seconds of messages, and then those who leave before their page is written
STAYING = [f"a{number:02}" for number in range(4 * RATE)]
LEAVING = [f"b{number:02}" for number in range(2 * RATE)]
LATE = "b-late"
COUNTRY = {"country": "USA"}


@dataclass(frozen=True)
class ChangingAudience:
    services: ServerPair
    database: Database

    async def remove_targets(self, target_ids: list[str]) -> None:
        request = pb.RemoveTargetsRequest(segment_id="s", target_ids=target_ids)
        await self.services.segments.RemoveTargets(request)

    async def change_users(self, target_ids: list[str], country: str) -> None:
        users = [a_user(id_, custom={"country": country}) for id_ in target_ids]
        await sql_chat_store(self.database).users.upsert(users, datetime.now(UTC))

    async def change_filter(self, _: list[str]) -> None:
        segment = _segment(filter={**COUNTRY, "id": {"$lt": "b"}})
        request = pb.UpdateSegmentRequest(segment=segment, update_mask=FieldMask(paths=["filter"]))
        await self.services.segments.UpdateSegment(request)

    async def deactivate(self, target_ids: list[str]) -> None:
        await sql_chat_store(self.database).users.deactivate(target_ids, datetime.now(UTC))

    async def delete_users(self, target_ids: list[str]) -> None:
        await sql_chat_store(self.database).users.delete(target_ids, datetime.now(UTC))

    async def delete_channels(self, target_ids: list[str]) -> None:
        await sql_chat_store(self.database).channels.delete(target_ids, datetime.now(UTC))

    async def remove_sender(self, target_ids: list[str]) -> None:
        channels = sql_chat_store(self.database).channels
        for cid in target_ids:
            await channels.remove_members(cid, [SENDER_ID])


def _segment(**fields: Any) -> segment_pb2.Segment:
    filter_ = fields.pop("filter", None)
    segment = segment_pb2.Segment(**{"id": "s", "type": segment_pb2.SEGMENT_TYPE_USER, **fields})
    if filter_:
        segment.filter.update(filter_)
    return segment


CHANNELS = {"type": segment_pb2.SEGMENT_TYPE_CHANNEL}
Leave = Callable[[ChangingAudience, list[str]], Awaitable[None]]
WAYS: dict[str, tuple[segment_pb2.Segment, Leave]] = {
    "removed from a list": (_segment(), ChangingAudience.remove_targets),
    "match a filter no more": (
        _segment(filter=COUNTRY),
        lambda audience, ids: audience.change_users(ids, "FR"),
    ),
    "another filter": (_segment(filter=COUNTRY), ChangingAudience.change_filter),
    "deactivated, of a filter": (_segment(filter=COUNTRY), ChangingAudience.deactivate),
    "deleted, of a filter": (_segment(filter=COUNTRY), ChangingAudience.delete_users),
    "deactivated, of all users": (_segment(all_users=True), ChangingAudience.deactivate),
    "deleted, of all users": (_segment(all_users=True), ChangingAudience.delete_users),
    "removed from a list of channels": (_segment(**CHANNELS), ChangingAudience.remove_targets),
    "channels deleted": (
        _segment(**CHANNELS, filter={"type": "messaging"}),
        ChangingAudience.delete_channels,
    ),
    "channels without the sender": (
        _segment(**CHANNELS, all_sender_channels=True),
        ChangingAudience.remove_sender,
    ),
}


async def people(audience: ChangingAudience, ids: list[str]) -> None:
    await audience.change_users([SENDER_ID], "")
    await audience.change_users(ids, "USA")


async def with_targets(
    audience: ChangingAudience, segment: segment_pb2.Segment
) -> tuple[list[str], list[str]]:
    """Those who stay and those who leave, in the segment."""
    if segment.type == segment_pb2.SEGMENT_TYPE_USER:
        await people(audience, [*STAYING, *LEAVING])
        staying, leaving = STAYING, LEAVING
    else:
        await people(audience, [])
        drafts = [ChannelDraft(a_channel(id_), [SENDER_ID]) for id_ in (*STAYING, *LEAVING)]
        await sql_chat_store(audience.database).channels.upsert(drafts, datetime.now(UTC))
        staying, leaving = ([f"messaging:{id_}" for id_ in ids] for ids in (STAYING, LEAVING))
    await audience.services.create_segment(segment)
    if segment.WhichOneof("definition") is None:
        await audience.services.add_targets("s", [*staying, *leaving])
    if segment.all_users:
        staying = [*staying, SENDER_ID]
    return staying, leaving


async def started(services: ServerPair, rate: int, *, to_channels: bool = False) -> None:
    changes: dict[str, Any] = {
        "user_ids": None,
        "segment_ids": ["s"],
        "max_messages_per_second": rate,
    }
    if to_channels:
        template = {"text": "Hi {{ channel.id }}"}
        changes |= {
            "message_template": template,
            "channel_template": None,
            "create_channels": False,
        }
    await services.create(a_campaign_message(changes))
    await services.start()
    await services.until_under_way()


@pytest.mark.nightly_on(*WAYS.keys() - {"removed from a list"})
@pytest.mark.parametrize("way", WAYS)
async def test_who_has_left_before_a_page_is_written_has_no_outcome(
    database: Database, database_url: str, way: str
) -> None:
    segment, leave = WAYS[way]
    async with start_pair(database_url) as services:
        audience = ChangingAudience(services, database)
        staying, leaving = await with_targets(audience, segment)
        await started(services, RATE, to_channels=segment.type != segment_pb2.SEGMENT_TYPE_USER)

        await leave(audience, leaving)

        # none of them can have been read in the last half second
        assert count_messages(database_url, "spring") < len(STAYING) - RATE
        done = await services.until_completed()

    assert outcomes(database_url, "spring") == dict.fromkeys(staying, "sent")
    assert_everyone_has_one_outcome(database_url, "spring", len(staying))
    assert done.stats.targets_total == len(staying)


@pytest.mark.nightly
async def test_who_begins_to_match_ahead_of_the_run_is_reached(
    database: Database, database_url: str
) -> None:
    async with start_pair(database_url) as services:
        audience = ChangingAudience(services, database)
        await with_targets(audience, _segment(filter=COUNTRY))
        # so slow that eight seconds are left, on a busy machine, too
        await started(services, RATE // 4)
        # time enough to have read all of them ahead
        await services.until_under_way(sent=len(STAYING) // 2)

        await audience.change_users([LATE], "USA")

        await services.until_completed()
    assert set(outcomes(database_url, "spring")) == {*STAYING, LATE, *LEAVING}


@pytest.mark.nightly_on("100")
@pytest.mark.parametrize("rate", [100, 800])
async def test_a_segment_that_is_deleted_ends_the_run_at_the_next_page(
    database: Database, database_url: str, rate: int
) -> None:
    ids = [f"p{number:04}" for number in range(5 * rate)]
    async with start_pair(database_url) as services:
        audience = ChangingAudience(services, database)
        await people(audience, ids)
        await services.add_list("s", ids)
        await started(services, rate)

        await services.delete_segment("s")

        when_it_returned = count_messages(database_url, "spring")
        stopped = await services.until_stopped()
    assert stopped.status_reason == "segment 's' is not available"
    account = recount(database_url, "spring")
    assert_consistent(account)
    assert account.messages - when_it_returned <= rate / 2


@pytest.mark.nightly
async def test_a_run_waits_for_the_answer_who_is_still_in_a_page(
    database: Database, database_url: str
) -> None:
    ids = STAYING[:4]
    async with start_pair(database_url) as services:
        audience = ChangingAudience(services, database)
        await people(audience, ids)
        await services.add_list("s", ids)
        # a page is as old as a second when it is written
        await started(services, 1)

        await services.segment.stop()

        waiting = await services.until(lambda campaign: campaign.status_reason != "")
        assert waiting.status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
        assert waiting.status_reason == "waiting for the segment service"
        await services.restart_segment()
        await audience.remove_targets(ids[3:])
        await services.until_completed()
    assert outcomes(database_url, "spring") == dict.fromkeys(ids[:3], "sent")
