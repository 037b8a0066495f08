"""Times at both ends of what there is are times like any other, in any time zone."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text

from campaign_service.campaigns.model import Stats
from campaign_service.wire.campaign import campaign_to_proto
from chat_store.database.engine import open_database
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as campaigns
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as chat
from herald.chat.v1.sort_pb2 import SORT_DIRECTION_ASC, SORT_DIRECTION_DESC, Sort
from herald.segment.v1 import segment_service_pb2 as segments
from herald_rpc.wire.fields import timestamp
from herald_rpc.wire.structs import to_struct
from tests.campaign.builders import MOMENT, a_campaign
from tests.values.everything import Everything
from tests.values.requests import populate, valid
from tests.values.walking import walk

pytestmark = pytest.mark.nightly_on("America")

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
STEP = timedelta(microseconds=1)
TIMES = {
    "first": FIRST,
    "second": FIRST + STEP,
    "third": datetime(2026, 3, 1, 12, tzinfo=UTC),
    "fourth": LAST - STEP,
    "last": LAST,
}


def written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def moment_of(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)


async def upsert_users(everything: Everything) -> None:
    users = [chat_pb2.User(id=id_, created_at=timestamp(at)) for id_, at in TIMES.items()]
    answer = await everything.ask(chat.UpsertUsersRequest(users=users))
    assert [user.created_at for user in answer.users] == [user.created_at for user in users]


@pytest.mark.nightly_on("sqlite")
async def test_pages_go_through_them_in_both_directions(everything: Everything) -> None:
    await upsert_users(everything)
    ids = list(TIMES)
    for direction, expected in ((SORT_DIRECTION_ASC, ids), (SORT_DIRECTION_DESC, ids[::-1])):
        sort = Sort(field="created_at", direction=direction)
        request = chat.QueryUsersRequest(sort=[sort], page_size=1)
        users = [user for page in await walk(everything, request, "users") for user in page]
        assert [user.id for user in users] == expected
        assert {user.id: moment_of(user.created_at) for user in users} == TIMES


@pytest.mark.nightly_on("sqlite")
async def test_filters_and_segments_tell_them_apart(everything: Everything) -> None:
    await upsert_users(everything)
    for place, (id_, moment) in enumerate(TIMES.items()):
        for operator, expected in (
            ("$eq", [id_]),
            ("$lt", list(TIMES)[:place]),
            ("$gte", list(TIMES)[place:]),
            ("$in", [id_]),
        ):
            operand = [written(moment)] if operator == "$in" else written(moment)
            filter_ = to_struct({"created_at": {operator: operand}})
            sort = [Sort(field="created_at")]
            found = await everything.ask(chat.QueryUsersRequest(filter=filter_, sort=sort))
            assert [user.id for user in found.users] == expected
            segment = valid("CreateSegment", f"{id_} {operator}")
            segment.segment.filter.CopyFrom(filter_)  # type: ignore[attr-defined]
            created = await everything.ask(segment)
            counted = await everything.ask(
                segments.CountTargetsRequest(segment_ids=[created.segment.id])
            )
            assert counted.count == len(expected)
            explained = await everything.ask(
                segments.ExplainTargetRequest(segment_id=created.segment.id, target_id=id_)
            )
            assert explained.clauses[0].seen.string_value == written(moment)


async def test_imported_ones_come_back_everywhere(everything: Everything) -> None:
    await populate(everything)
    for id_, moment in TIMES.items():
        at, channel = written(moment), {"channel_type": "messaging", "channel_id": id_}
        data = {
            "user": {"id": id_, "created_at": at, "last_active": at, "deactivated_at": at},
            "device": {
                "id": id_,
                "user_id": "ann",
                "push_provider_type": "apn",
                "created_at": at,
            },
            "channel": {"type": "messaging", "id": id_, "created_by": "ann", "created_at": at},
            "member": {
                **channel,
                "user_id": "ann",
                "created_at": at,
                "archived_at": at,
                "last_read": at,
            },
            "message": {
                **channel,
                "id": id_,
                "user": "ann",
                "type": "deleted",
                "deleted_at": at,
                "created_at": at,
            },
        }
        lines = [json.dumps({"type": kind, "data": record}) for kind, record in data.items()]
        imported = await everything.imported(lines)
        assert (imported.failed, list(imported.errors)) == (0, [])

    for field in ("created_at", "last_active"):
        request = chat.QueryUsersRequest(
            filter=to_struct({"id": {"$in": list(TIMES)}}),
            sort=[Sort(field=field)],
            page_size=1,
            include_deactivated=True,
        )
        users = [user for page in await walk(everything, request, "users") for user in page]
        assert [user.id for user in users] == list(TIMES)
        assert {user.id: moment_of(user.created_at) for user in users} == TIMES
        assert {user.id: moment_of(user.last_active) for user in users} == TIMES
        assert {user.id: moment_of(user.deactivated_at) for user in users} == TIMES
    for field in ("created_at", "last_message_at", "last_updated"):
        channels = chat.QueryChannelsRequest(
            filter=to_struct({"id": {"$in": list(TIMES)}}), sort=[Sort(field=field)], page_size=1
        )
        pages = await walk(everything, channels, "channels")
        assert [channel.id for page in pages for channel in page] == list(TIMES)
        assert [moment_of(channel.last_message_at) for page in pages for channel in page] == [
            *TIMES.values()
        ]
    for id_, moment in TIMES.items():
        cid = f"messaging:{id_}"
        (member,) = (await everything.ask(chat.QueryMembersRequest(cid=cid))).members
        (message,) = (await everything.ask(chat.QueryMessagesRequest(cid=cid))).messages
        read = chat.MarkReadRequest(cid=cid, user_id="ann", read_at=timestamp(FIRST))
        times = (member.created_at, member.archived_at, message.created_at)
        assert set(map(moment_of, times)) == {moment}
        assert moment_of((await everything.ask(read)).read_at) == moment


@pytest.mark.nightly
async def test_campaigns_are_scheduled_for_them_and_the_server_starts_again(
    everything: Everything,
) -> None:
    await populate(everything)
    for id_, moment in TIMES.items():
        await everything.ask(valid("CreateCampaign", id_))
        start = campaigns.StartCampaignRequest(id=id_, scheduled_for=timestamp(moment))
        started = (await everything.ask(start)).campaign
        assert moment_of(started.scheduled_for) == moment
    past = [id_ for id_, moment in TIMES.items() if moment < datetime.now(UTC)]

    for id_ in past:
        await everything.services.until_completed(id_)
    await everything.restart_campaign()

    request = campaigns.QueryCampaignsRequest(
        filter=to_struct({"scheduled_for": {"$exists": True}}),
        sort=[Sort(field="scheduled_for")],
        page_size=1,
    )
    pages = await walk(everything, request, "campaigns")
    found = [campaign for page in pages for campaign in page]
    assert {campaign.id: moment_of(campaign.scheduled_for) for campaign in found} == TIMES
    assert [campaign.id for campaign in found] == list(TIMES)
    for id_, moment in TIMES.items():
        watched = (await everything.ask(campaigns.WatchCampaignRequest(id=id_))).campaign
        completed = campaign_pb2.CAMPAIGN_STATUS_COMPLETED
        assert (watched.status == completed) == (id_ in past)
        assert moment_of(watched.scheduled_for) == moment


UNREADABLE: dict[str, dict[str, object]] = {
    "sqlite": {"before": -(2**63), "after": 2**63 - 1},
    "postgresql": {
        "before": "'0044-03-15 BC'",
        "minus infinity": "'-infinity'",
        "after": "'20000-01-01'",
        "infinity": "'infinity'",
    },
}


async def test_what_lies_beyond_both_ends_is_read_as_the_end(
    zoned_url: str, everything: Everything
) -> None:
    database = open_database(zoned_url)
    unreadable = UNREADABLE[database.dialect]
    users = [chat_pb2.User(id=id_) for id_ in unreadable]
    await everything.ask(chat.UpsertUsersRequest(users=users))
    async with database.transaction() as connection:
        for id_, stored in unreadable.items():
            statement = f"UPDATE users SET last_active = {stored} WHERE id = '{id_}'"
            await connection.execute(text(statement))
    await database.close()

    found = (await everything.ask(chat.QueryUsersRequest())).users

    ends = {id_: FIRST if id_ in ("before", "minus infinity") else LAST for id_ in unreadable}
    assert {user.id: moment_of(user.last_active) for user in found} == ends


def test_a_completion_beyond_the_year_9999_is_not_guessed() -> None:
    """A campaign that was resumed after months has sent very little a second since its start."""
    stats = Stats(started_at=MOMENT, messages_sent=1, targets_total=1_000_000)
    campaign = a_campaign(stats=stats)

    soon = campaign_to_proto(campaign, None, {}, MOMENT + timedelta(seconds=1))
    never = campaign_to_proto(campaign, None, {}, MOMENT + timedelta(days=30))

    assert soon.stats.HasField("estimated_completion_at")
    assert not never.stats.HasField("estimated_completion_at")
