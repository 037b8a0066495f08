"""Campaigns page by page, and the users of one."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
import pytest_asyncio

from chat_store.database.engine import Database, open_database
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.chat.v1 import sort_pb2
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_user
from tests.campaign.refusals import refusal_of
from tests.campaign.server_pair import ServerPair, start_pair

pytestmark = pytest.mark.nightly_on("postgresql")

USERS = [f"u{number:02}" for number in range(25)]
ASC, DESC = sort_pb2.SORT_DIRECTION_ASC, sort_pb2.SORT_DIRECTION_DESC


@pytest.fixture
async def services(database: Database, database_url: str) -> AsyncIterator[ServerPair]:
    users = [a_user(id_) for id_ in [SENDER_ID, *USERS]]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    async with start_pair(database_url) as services:
        yield services


@pytest_asyncio.fixture(scope="module")
async def listed(shared_database_url: str) -> AsyncIterator[ServerPair]:
    """With nine campaigns, for calls that only read."""
    database = open_database(shared_database_url)
    users = [a_user(id_) for id_ in [SENDER_ID, *USERS]]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    await database.close()
    async with start_pair(shared_database_url) as services:
        await with_campaigns(services)
        yield services


async def with_campaigns(services: ServerPair) -> None:
    """Of two senders, to segments or users, created in the order of their names."""
    await services.add_list("red", [])
    await services.add_list("blue", [])
    audiences: list[dict[str, Any]] = [
        {"user_ids": None, "segment_ids": ["red"]},
        {"user_ids": None, "segment_ids": ["red", "blue"]},
        {"user_ids": USERS},
    ]
    for number in range(9):
        changes = {
            "id": f"c{number}",
            "name": "even" if number % 2 == 0 else "odd",
            "sender_id": "u00" if number < 3 else SENDER_ID,
            **audiences[number % 3],
        }
        await services.create(a_campaign_message(changes))


def a_query(filter_: dict[str, Any] | None = None, **arguments: Any) -> pb.QueryCampaignsRequest:
    request = pb.QueryCampaignsRequest(**arguments)
    request.filter.update(filter_ or {})
    return request


async def queried(services: ServerPair, request: pb.QueryCampaignsRequest) -> list[str]:
    response = await services.campaigns.QueryCampaigns(request)
    return [campaign.id for campaign in response.campaigns]


# --- the users of a campaign


async def page_of_users(services: ServerPair, **arguments: Any) -> pb.GetCampaignResponse:
    request = pb.GetCampaignRequest(id="spring", **arguments)
    response: pb.GetCampaignResponse = await services.campaigns.GetCampaign(request)
    return response


def user_ids(response: pb.GetCampaignResponse) -> list[str]:
    return [user.id for user in response.campaign.users]


@pytest.mark.nightly_on("-1000]", "-26]")
@pytest.mark.parametrize("size", [1, 7, 24, 25, 26, 1_000])
async def test_the_users_come_in_pages_there_and_back(services: ServerPair, size: int) -> None:
    await services.create(a_campaign_message({"user_ids": [*reversed(USERS)]}))

    pages = [await page_of_users(services, user_page_size=size)]
    while token := pages[-1].next_user_page_token:
        pages.append(await page_of_users(services, user_page_size=size, user_page_token=token))
    back = [pages[-1]]
    while token := back[-1].prev_user_page_token:
        back.append(await page_of_users(services, user_page_size=size, user_page_token=token))

    there = [user_ids(page) for page in pages]
    assert [id_ for page in there for id_ in page] == USERS
    assert all(len(page) == size for page in there[:-1])
    assert [user_ids(page) for page in reversed(back)] == there
    assert pages[0].campaign.users[0].name == "U00"


async def test_ids_that_are_no_user_are_left_out_of_the_users(services: ServerPair) -> None:
    ids = ["u00", "nobody", "u01"]
    created = await services.create(a_campaign_message({"user_ids": ids}))

    assert list(created.user_ids) == ["nobody", "u00", "u01"]
    assert user_ids(await page_of_users(services)) == ["u00", "u01"]


@pytest.mark.nightly
async def test_users_that_are_large_come_in_shorter_pages(
    services: ServerPair, database: Database
) -> None:
    """A client receives no more than 4 MiB unless told otherwise."""
    ids = [f"large{number:04}" for number in range(1_000)]
    users = [a_user(id_, custom={"a": "x" * 5_000}) for id_ in ids]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    await services.create(a_campaign_message({"user_ids": ids}))

    pages = [await page_of_users(services, user_page_size=1_000)]
    while token := pages[-1].next_user_page_token:
        pages.append(await page_of_users(services, user_page_size=1_000, user_page_token=token))

    assert [id_ for page in pages for id_ in user_ids(page)] == ids


async def test_a_token_of_another_campaigns_users_is_refused(services: ServerPair) -> None:
    for id_ in ("spring", "summer"):
        await services.create(a_campaign_message({"id": id_, "user_ids": USERS}))
    token = (await page_of_users(services, user_page_size=5)).next_user_page_token

    request = pb.GetCampaignRequest(id="summer", user_page_token=token)
    refusal = await refusal_of(services.campaigns.GetCampaign(request))

    assert (refusal.reason, refusal.fields) == ("INVALID_PAGE_TOKEN", ("user_page_token",))


# --- campaigns


@pytest.mark.parametrize(
    ("filter_", "ids"),
    [
        ({}, "876543210"),
        ({"id": "c3"}, "3"),
        ({"id": {"$in": ["c1", "c8", "x"]}}, "81"),
        ({"name": "even"}, "86420"),
        ({"name": {"$ne": "even"}}, "7531"),
        ({"sender_id": "u00"}, "210"),
        ({"status": "draft"}, "876543210"),
        ({"status": {"$in": ["scheduled", "in_progress"]}}, ""),
        ({"segments": "blue"}, "741"),
        ({"segments": {"$in": ["red", "x"]}}, "764310"),
        ({"segments": {"$contains": "red"}}, "764310"),
        ({"$or": [{"id": "c1"}, {"segments": "blue", "name": "even"}]}, "41"),
        ({"created_at": {"$gt": "2001-01-01T00:00:00Z"}}, "876543210"),
        ({"created_at": {"$lt": "2001-01-01T00:00:00Z"}}, ""),
        ({"scheduled_for": {"$exists": True}}, ""),
    ],
    ids=str,
)
async def test_campaigns_are_found_by_a_filter_newest_first(
    listed: ServerPair, filter_: dict[str, Any], ids: str
) -> None:
    assert await queried(listed, a_query(filter_)) == [f"c{digit}" for digit in ids]


async def test_a_status_is_found_as_it_changes(services: ServerPair) -> None:
    await with_campaigns(services)
    await services.start("c2")
    await services.until_completed("c2")

    assert await queried(services, a_query({"status": "completed"})) == ["c2"]


@pytest.mark.parametrize(
    ("sort", "ids"),
    [
        ([("id", False)], "012345678"),
        ([("created_at", False)], "012345678"),
        ([("name", False), ("id", True)], "864207531"),
        ([("sender_id", True), ("id", False)], "012345678"),
        ([("scheduled_for", False), ("id", True)], "876543210"),
    ],
    ids=str,
)
async def test_campaigns_can_be_sorted(
    listed: ServerPair, sort: list[tuple[str, bool]], ids: str
) -> None:
    sorts = [
        sort_pb2.Sort(field=field, direction=DESC if descending else ASC)
        for field, descending in sort
    ]

    assert await queried(listed, a_query(sort=sorts)) == [f"c{digit}" for digit in ids]


@pytest.mark.parametrize("size", [1, 2, 4, 9, 100])
async def test_campaigns_come_in_pages_there_and_back(listed: ServerPair, size: int) -> None:
    arguments: dict[str, Any] = {
        "page_size": size,
        "sort": [sort_pb2.Sort(field="name"), sort_pb2.Sort(field="id")],
    }

    pages = [await listed.campaigns.QueryCampaigns(a_query(**arguments))]
    while token := pages[-1].next_page_token:
        request = a_query(**arguments, page_token=token)
        pages.append(await listed.campaigns.QueryCampaigns(request))
    back = [pages[-1]]
    while token := back[-1].prev_page_token:
        request = a_query(**arguments, page_token=token)
        back.append(await listed.campaigns.QueryCampaigns(request))

    there = [[campaign.id for campaign in page.campaigns] for page in pages]
    expected = [f"c{digit}" for digit in "024681357"]
    assert [id_ for page in there for id_ in page] == expected
    assert [[c.id for c in page.campaigns] for page in reversed(back)] == there


@pytest.mark.parametrize(
    "other",
    [
        a_query({"name": "odd"}),
        a_query(sort=[sort_pb2.Sort(field="name")]),
        a_query(user_limit=1),
    ],
    ids=["filter", "sort", "user limit"],
)
async def test_a_token_of_another_query_is_refused(
    listed: ServerPair, other: pb.QueryCampaignsRequest
) -> None:
    first = await listed.campaigns.QueryCampaigns(a_query(page_size=2))
    other.page_token = first.next_page_token

    refusal = await refusal_of(listed.campaigns.QueryCampaigns(other))

    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.reason, refusal.fields) == ("INVALID_PAGE_TOKEN", ("page_token",))


@pytest.mark.parametrize(("limit", "shown"), [(0, 0), (3, 3), (25, 25), (5_000, 25)])
async def test_campaigns_can_be_listed_with_some_of_their_users(
    listed: ServerPair, limit: int, shown: int
) -> None:
    response = await listed.campaigns.QueryCampaigns(
        a_query({"id": {"$in": ["c1", "c2"]}}, user_limit=limit)
    )

    to_users, to_segments = response.campaigns
    assert [user.id for user in to_users.users] == USERS[:shown]
    assert not to_segments.users
    assert [segment.id for segment in to_segments.segments] == ["red", "blue"]
    assert to_segments.sender.id == "u00"


@pytest.mark.nightly
async def test_campaigns_that_are_large_come_in_shorter_pages(services: ServerPair) -> None:
    """A client receives no more than 4 MiB unless told otherwise."""
    ids = [f"large{number}" for number in range(5)]
    for id_ in ids:
        large = {"id": id_, "description": "x" * 1_500_000}
        await services.create(a_campaign_message(large))

    pages = [await services.campaigns.QueryCampaigns(a_query())]
    while token := pages[-1].next_page_token:
        pages.append(await services.campaigns.QueryCampaigns(a_query(page_token=token)))

    assert [c.id for page in pages for c in page.campaigns] == [*reversed(ids)]
