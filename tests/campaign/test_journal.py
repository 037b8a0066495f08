"""An operator can follow each campaign, and what it depends on, in the log."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from chat_store.database.engine import Database
from chat_store.sql.stores import sql_chat_store
from tests.campaign.builders import SENDER_ID, a_campaign_message, a_user
from tests.campaign.server_pair import ServerPair, start_pair

pytestmark = pytest.mark.nightly_on("postgresql")

PEOPLE = [f"u{number:02}" for number in range(20)]
Logs = list[Any]


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as captured:
        yield captured


def of_campaign(logs: Logs) -> list[str]:
    return [line["event"] for line in logs if line["event"].startswith("campaign ")]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a log has no event to wait for
            await asyncio.sleep(0.01)


async def with_draft(database: Database, services: ServerPair, speed: int = 0) -> None:
    users = [a_user(id_) for id_ in [SENDER_ID, *PEOPLE]]
    await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
    await services.create(
        a_campaign_message({"user_ids": PEOPLE, "max_messages_per_second": speed})
    )


@pytest.mark.nightly
async def test_the_life_of_a_campaign_has_a_line_for_each_turn_and_none_for_a_page(
    database: Database, database_url: str, logs: Logs
) -> None:
    async with start_pair(database_url, page_size=1) as services:
        await with_draft(database, services, speed=5)
        await services.start()
        await services.until(lambda campaign: campaign.stats.messages_sent > 0)
        await services.stop()
        await services.start()
        await services.until_completed()
        # the line comes a moment after the transaction
        await until(lambda: "campaign completed" in of_campaign(logs))

    assert of_campaign(logs) == [
        "campaign started",
        "campaign stopped",
        "campaign resumed",
        "campaign completed",
    ]
    lines = [line for line in logs if line["event"].startswith("campaign ")]
    assert {line["campaign_id"] for line in lines} == {"spring"}
    assert {line["log_level"] for line in lines} == {"info"}
    assert lines[1]["reason"] == "stopped by a caller"
    assert lines[-1]["messages_sent"] == len(PEOPLE)
    assert lines[-1]["targets_failed"] == lines[-1]["targets_skipped"] == 0


async def test_a_segment_service_that_is_lost_and_comes_back_has_two_lines(
    sqlite_url: str, logs: Logs
) -> None:
    def events() -> list[str]:
        return [line["event"] for line in logs if "the segment service" in line["event"]]

    async with start_pair(sqlite_url) as services:
        await services.segment.stop()
        await until(lambda: "the segment service can't be reached" in events())
        await services.restart_segment()
        await until(lambda: "the segment service is back" in events())

    assert events() == ["the segment service can't be reached", "the segment service is back"]
    back = next(line for line in logs if line["event"] == "the segment service is back")
    assert back["seconds"] >= 0


async def test_a_host_name_that_is_unknown_is_logged_and_does_no_harm_beside_a_good_one(
    database: Database, database_url: str, logs: Logs
) -> None:
    def lost() -> list[str]:
        event = "the segment service can't be reached"
        return [line["target"] for line in logs if line["event"] == event]

    async with start_pair(database_url) as services:
        good = services.segment.address.replace("127.0.0.1", "localhost")
        # a label that is empty, so that no resolver asks a server for it
        await services.campaign.stop()
        await services.restart_campaign(segment_target=f"no..name:50051,{good}")
        users = [a_user(id_) for id_ in [SENDER_ID, *PEOPLE]]
        await sql_chat_store(database).users.upsert(users, datetime.now(UTC))
        await services.add_list("all", PEOPLE)
        await services.create(a_campaign_message({"user_ids": None, "segment_ids": ["all"]}))
        await services.start()
        await services.until_completed()
        await until(lambda: "no..name:50051" in lost())

    assert lost() == ["no..name:50051"]
