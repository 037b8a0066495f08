"""Changing a campaign: some of its fields or all, as a whole or not at all."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from chat_store.database.engine import Database, open_database
from chat_store.paging import PageRequest
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from tests.campaign.builders import CHANNEL_ID, SENDER_ID, a_campaign_message, a_user
from tests.campaign.refusals import refusal_of
from tests.campaign.server_pair import ServerPair, start_pair
from tests.harness.reconciliation import assert_consistent, assert_everyone_has_one_outcome, recount

pytestmark = pytest.mark.nightly_on("postgresql")

INVALID = grpc.StatusCode.INVALID_ARGUMENT
STOPPED = campaign_pb2.CAMPAIGN_STATUS_STOPPED
PEOPLE = ["ann", "bob", "cid", "dan", "eve"]


@pytest_asyncio.fixture(scope="module")
async def services(shared_database_url: str) -> AsyncIterator[ServerPair]:
    database = open_database(shared_database_url)
    users = [a_user(id_) for id_ in (SENDER_ID, "other", *PEOPLE)]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    await database.close()
    async with start_pair(shared_database_url, page_size=4) as running_services:
        await running_services.add_list("ones", ["ann", "bob"])
        await running_services.add_list("others", ["cid", "dan"])
        yield running_services


@pytest.fixture
def id_(request: pytest.FixtureRequest) -> str:
    """A name of the test's own."""
    return str(request.node.name)[:200]


async def update(
    services: ServerPair, changes: dict[str, Any], *paths: str, etag: str = ""
) -> campaign_pb2.Campaign:
    """`changes` are all that is given, with `paths` as the mask."""
    nothing = dict.fromkeys(
        ("sender_id", "user_ids", "message_template", "create_channels", "channel_template")
    )
    campaign = a_campaign_message({**nothing, **changes})
    campaign.etag = etag
    request = pb.UpdateCampaignRequest(campaign=campaign, update_mask=FieldMask(paths=paths))
    changed: campaign_pb2.Campaign = (await services.campaigns.UpdateCampaign(request)).campaign
    return changed


async def test_a_mask_changes_what_it_names_and_nothing_else(
    services: ServerPair, id_: str
) -> None:
    before = await services.create(a_campaign_message({"id": id_, "description": "as it was"}))

    after = await update(
        services,
        {"id": id_, "name": "Spring", "description": "not named", "skip_push": True},
        "name",
        "skip_push",
    )

    assert (after.name, after.description, after.skip_push) == ("Spring", "as it was", True)
    assert after.message_template == before.message_template
    assert after.channel_template == before.channel_template
    assert list(after.user_ids) == list(before.user_ids)
    assert after.updated_at.ToDatetime() >= before.updated_at.ToDatetime()
    assert after.etag != before.etag
    assert (await services.get(id_)).name == "Spring"


async def test_a_mask_reaches_into_the_templates(services: ServerPair, id_: str) -> None:
    await services.create(
        a_campaign_message(
            {
                "id": id_,
                "message_template": {"text": "Hi", "poll_id": "p", "custom": {"a": 1}},
                "channel_template": {"type": "messaging", "id": CHANNEL_ID, "team": "red"},
            }
        )
    )

    after = await update(
        services,
        {"id": id_, "message_template": {"text": "Bye"}},
        "message_template.text",
        "message_template.custom",
        "channel_template.team",
    )

    # what is named and not given becomes unset
    assert (after.message_template.text, after.message_template.poll_id) == ("Bye", "p")
    assert dict(after.message_template.custom) == {}
    assert (after.channel_template.id, after.channel_template.team) == (CHANNEL_ID, "")


@pytest.mark.parametrize("paths", [(), ("*",)], ids=["absent", "star"])
async def test_without_a_mask_everything_is_replaced(
    services: ServerPair, id_: str, paths: tuple[str, ...]
) -> None:
    await services.create(a_campaign_message({"id": id_, "name": "Spring", "skip_push": True}))

    after = await update(
        services,
        {
            "id": id_,
            "sender_id": "other",
            "segment_ids": ["ones"],
            "message_template": {"text": "Bye"},
        },
        *paths,
    )

    assert (after.name, after.skip_push, after.create_channels) == ("", False, False)
    assert (after.sender_id, list(after.segment_ids)) == ("other", ["ones"])
    assert not after.user_ids
    assert not after.HasField("channel_template")
    assert after.sender.id == "other"


REFUSED = {
    "an unknown sender": ({"sender_id": "nobody"}, ["sender_id"], "campaign.sender_id"),
    "an unknown segment": (
        {"segment_ids": ["ones", "none"]},
        ["segment_ids", "user_ids"],
        "campaign.segment_ids[1]",
    ),
    "users beside segments": ({"segment_ids": ["ones"]}, ["segment_ids"], "campaign.user_ids"),
    "nobody at all": ({}, ["user_ids"], "campaign.segment_ids"),
    "a bad template": (
        {"message_template": {"text": "{{ reciever.name }}"}},
        ["message_template.text"],
        "campaign.message_template.text",
    ),
    "no text": ({}, ["message_template"], "campaign.message_template"),
    "no channel template": ({}, ["channel_template"], "campaign.channel_template"),
    "a negative limit": (
        {"max_messages_per_second": -1},
        ["max_messages_per_second"],
        "campaign.max_messages_per_second",
    ),
}


@pytest.mark.parametrize(("changes", "paths", "field"), REFUSED.values(), ids=REFUSED)
async def test_a_change_that_makes_no_valid_campaign_is_refused_whole(
    services: ServerPair, id_: str, changes: dict[str, Any], paths: list[str], field: str
) -> None:
    before = await services.create(a_campaign_message({"id": id_}))

    refusal = await refusal_of(
        update(services, {"id": id_, "name": "changed", **changes}, "name", *paths)
    )

    assert (refusal.code, refusal.fields) == (INVALID, (field,))
    assert (await services.get(id_)).etag == before.etag


async def test_all_that_is_missing_is_told_at_once(services: ServerPair, id_: str) -> None:
    await services.create(a_campaign_message({"id": id_}))

    refusal = await refusal_of(
        update(
            services,
            {"id": id_, "segment_ids": ["no", "ones", "nor"]},
            "segment_ids",
            "user_ids",
        )
    )

    assert refusal.reason == "SEGMENT_NOT_FOUND"
    assert refusal.metadata == {"segment_id": "no", "field": "campaign.segment_ids[0]"}
    assert refusal.fields == ("campaign.segment_ids[0]", "campaign.segment_ids[2]")


async def test_what_is_gone_and_not_changed_holds_up_no_update(
    services: ServerPair, id_: str, shared_database_url: str
) -> None:
    database = open_database(shared_database_url)
    users = sql_chat_store(database).users
    await users.upsert([a_user("leaving"), a_user("moderator")], datetime.now(UTC))
    await services.add_list("leaving", [])
    await services.create(
        a_campaign_message(
            {
                "id": id_,
                "sender_id": "leaving",
                "user_ids": None,
                "segment_ids": ["leaving"],
                "channel_template": {"type": "messaging", "id": "x", "members": ["moderator"]},
            }
        )
    )
    await users.delete(["leaving", "moderator"], datetime.now(UTC))
    await database.close()
    await services.delete_segment("leaving")

    after = await update(services, {"id": id_, "name": "renamed"}, "name")

    assert after.name == "renamed"


async def test_an_etag_guards_against_a_change_in_between(services: ServerPair, id_: str) -> None:
    read = await services.create(a_campaign_message({"id": id_}))
    first = await update(services, {"id": id_, "name": "one"}, "name", etag=read.etag)

    refusal = await refusal_of(update(services, {"id": id_, "name": "two"}, "name", etag=read.etag))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert refusal.metadata == {"campaign_id": id_, "given": read.etag, "current": first.etag}
    assert (await services.get(id_)).name == "one"


async def test_a_start_changes_the_etag_and_progress_does_not(
    services: ServerPair, id_: str
) -> None:
    slowly = {"id": id_, "max_messages_per_second": 20}
    created = await services.create(a_campaign_message(slowly))
    started = await services.start(id_)
    completed = await services.until_completed(id_)

    assert len({created.etag, started.etag, completed.etag}) == 3
    assert (await services.get(id_)).etag == completed.etag


async def test_changes_of_different_fields_at_the_same_moment_are_all_there(
    services: ServerPair, id_: str
) -> None:
    await services.create(a_campaign_message({"id": id_}))
    changes: dict[str, Any] = {
        "name": "Spring",
        "description": "for all",
        "skip_push": True,
        "skip_webhook": True,
        "show_channels": True,
        "max_messages_per_second": 9,
        "sender_mode": "SENDER_MODE_EXCLUDE",
    }

    await asyncio.gather(
        *(update(services, {"id": id_, name: value}, name) for name, value in changes.items())
    )

    after = await services.get(id_)
    assert (after.name, after.description) == ("Spring", "for all")
    assert after.skip_push
    assert after.skip_webhook
    assert after.show_channels
    assert after.max_messages_per_second == 9
    assert after.sender_mode == campaign_pb2.SENDER_MODE_EXCLUDE


async def test_a_change_of_nothing_is_none(services: ServerPair, id_: str) -> None:
    before = await services.create(a_campaign_message({"id": id_, "name": "Spring"}))

    after = await update(services, {"id": id_, "name": "Spring"}, "name")

    assert (after.etag, after.updated_at) == (before.etag, before.updated_at)


# --- while stopped


@pytest_asyncio.fixture
async def database(shared_database_url: str) -> AsyncIterator[Database]:
    opened = open_database(shared_database_url)
    yield opened
    await opened.close()


async def texts(database: Database, id_: str) -> dict[str, str]:
    page = await sql_chat_store(database).messages.of_campaign(id_, PageRequest(1_000))
    return {message.target_id or "": message.text for message in page.items}


async def test_an_edit_while_stopped_gives_nobody_a_second_message(
    services: ServerPair, database: Database, id_: str, shared_database_url: str
) -> None:
    crowd = [f"crowd-{number:03}" for number in range(80)]
    await sql_chat_store(database).users.upsert([a_user(u) for u in crowd], datetime.now(UTC))
    await services.create(
        a_campaign_message(
            {
                "id": id_,
                "user_ids": crowd,
                "message_template": {"text": "old"},
                "max_messages_per_second": 100,
            }
        )
    )
    await services.start(id_)
    await services.until_under_way(id_)
    stopped = await services.stop(id_)
    had_the_old = await texts(database, id_)
    assert 0 < len(had_the_old) < len(crowd)

    # another text, another audience which begins before the old one, and no limit
    edited = await update(
        services,
        {
            "id": id_,
            "message_template": {"text": "new"},
            "user_ids": [*PEOPLE, *crowd[20:]],
        },
        "message_template.text",
        "user_ids",
        "max_messages_per_second",
    )
    assert (edited.status, edited.stats.messages_sent) == (STOPPED, stopped.stats.messages_sent)
    assert_consistent(recount(shared_database_url, id_))
    await services.start(id_)
    done = await services.until_completed(id_)

    expected = {*had_the_old, *PEOPLE, *crowd[20:]}
    assert_everyone_has_one_outcome(shared_database_url, id_, len(expected))
    sent = await texts(database, id_)
    assert set(sent) == expected
    assert {who for who, text in sent.items() if text == "old"} == set(had_the_old)
    assert done.stats.targets_total == len(expected)


async def test_an_audience_of_segments_can_become_one_of_users(
    services: ServerPair, database: Database, id_: str, shared_database_url: str
) -> None:
    await services.create(
        a_campaign_message(
            {
                "id": id_,
                "user_ids": None,
                "segment_ids": ["ones", "others"],
                "max_messages_per_second": 1,
            }
        )
    )
    await services.start(id_)
    await services.stop(id_)
    await update(
        services,
        {"id": id_, "user_ids": ["eve", "dan"]},
        "segment_ids",
        "user_ids",
        "max_messages_per_second",
    )
    handled = set(await texts(database, id_))
    await services.start(id_)
    await services.until_completed(id_)

    assert set(await texts(database, id_)) == {*handled, "eve", "dan"}
    assert_everyone_has_one_outcome(shared_database_url, id_, len({*handled, "eve", "dan"}))
