"""Pages are read by index ranges, given targets by their keys: no table is scanned as a whole."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from sqlalchemy import select, text

from chat_store.database.bulk.prepared import prepared
from chat_store.database.bulk.row_sources import key_parameters
from chat_store.models import Channel
from chat_store.store import ChannelDraft
from segment_service.segments import Shard, audience
from segment_service.sql.given_targets import GivenTargets, those_among
from segment_service.sql.segments import load_segments
from segment_service.sql.target_pages import TargetPageQuery, page_of_targets
from tests.segment.segment_server import CHANNEL, SegmentServer, start_segment_server

MANY = 4_000
PAGE = 100
EXPLAIN = {
    "sqlite": "EXPLAIN QUERY PLAN ",
    "postgresql": "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ",
}


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[SegmentServer]:
    """On a database of its own: a plan depends on what its tables have held before."""
    async with start_segment_server(database_url) as service:
        yield service


async def plan(
    service: SegmentServer, asked: Any, build: Callable[..., Any], values: Mapping[str, Any]
) -> list[str]:
    """The steps by which the database answers the statement."""
    database = service.database
    async with database.autocommit() as connection:
        found = await load_segments(connection, database.dialect, asked.segment_ids)
    of = audience(asked.segment_ids, found, asked.sender_id)
    statement = prepared(select(build(asked, database.dialect, of)), database.sql_dialect)
    async with database.autocommit() as connection:
        rows = await connection.exec_driver_sql(
            EXPLAIN[database.dialect] + statement.text, statement.bound(values)
        )
        return [str(row[-1]) for row in rows]


def rows_given(step: str) -> float:
    """How many rows PostgreSQL had from this step, those that it passed over not counted."""
    _, _, rest = step.partition("actual rows=")
    return float(rest.split()[0]) if rest else 0


async def many_channels(service: SegmentServer) -> None:
    await service.people(["anna"])
    drafts = [
        ChannelDraft(Channel(type="messaging", id=f"{number:05}"), ["anna"])
        for number in range(MANY)
    ]
    await service.chat.channels.upsert(drafts, service.clock())


AUDIENCES = [
    ["list"],
    ["filter"],
    ["all"],
    ["list", "other list", "filter", "other filter"],
    ["channels"],
    ["senders"],
    ["channels", "senders", "channel list"],
]


def is_of_channels(asked: list[str]) -> bool:
    return bool({"channels", "senders"} & set(asked))


async def made(service: SegmentServer, asked: list[str]) -> tuple[str, ...]:
    """Segments of these kinds over 4,000 users or channels, and statistics about them."""
    names = [f"user-{number:05}" for number in range(MANY)]
    cids = [f"messaging:{number:05}" for number in range(MANY)]
    of_channels = is_of_channels(asked)
    await (many_channels(service) if of_channels else service.people(names, country="USA"))
    kinds: dict[str, Callable[[], Awaitable[str]]] = {
        "list": lambda: service.listing(*names),
        "other list": lambda: service.listing(*names[::2]),
        "filter": lambda: service.matching({"country": "USA"}),
        "other filter": lambda: service.matching({"country": {"$gt": "A"}}),
        "all": service.all_users,
        "channels": lambda: service.matching({"type": "messaging"}, CHANNEL),
        "senders": service.senders_channels,
        "channel list": lambda: service.listing(*cids, type_=CHANNEL),
    }
    segments = [await kinds[name]() for name in asked]
    async with service.database.transaction() as connection:
        await connection.execute(text("ANALYZE"))
    return tuple(segments)


@pytest.mark.nightly
@pytest.mark.parametrize("asked", AUDIENCES, ids=" + ".join)
async def test_a_page_of_the_whole_and_of_a_shard_is_read_by_index_ranges(
    service: SegmentServer, asked: list[str]
) -> None:
    segments = await made(service, asked)

    # SQLite walks through the whole for any shard of it
    shards = [Shard(), Shard(1, 4)] if service.database.dialect == "postgresql" else [Shard()]
    for shard in shards:
        after = "messaging:02000" if is_of_channels(asked) else "user-02000"
        page = TargetPageQuery(segments, "anna", shard, PAGE)
        steps = await plan(service, page, page_of_targets, {"after": after})
        assert_by_index_ranges(service, steps, len(asked))


@pytest.mark.nightly
@pytest.mark.parametrize("asked", AUDIENCES, ids=" + ".join)
async def test_given_targets_are_looked_up_one_by_one(
    service: SegmentServer, asked: list[str]
) -> None:
    segments = await made(service, asked)
    prefix = "messaging:" if is_of_channels(asked) else "user-"
    given = [f"{prefix}{number:05}" for number in range(0, MANY, MANY // PAGE)]

    dialect = service.database.dialect
    question = GivenTargets(segments, "anna")
    steps = await plan(service, question, those_among, key_parameters(dialect, given))

    if dialect == "sqlite":
        scanned = [step for step in steps if step.startswith("SCAN") and step != "SCAN segments"]
        assert any(re.search(r"SEARCH .*id=\?", step) for step in steps), steps
        assert not [step for step in scanned if not re.search(" anon_| given|CONSTANT ROW", step)]
    else:
        whole = [step for step in steps if "Seq Scan" in step and " on segments " not in step]
        assert not [*whole, *(step for step in steps if "Parallel" in step)], steps
        # SQLite has no numbers of rows in its plans
        assert max(map(rows_given, steps)) <= PAGE * len(asked), steps


def assert_by_index_ranges(service: SegmentServer, steps: list[str], branches: int) -> None:
    if service.database.dialect == "sqlite":
        # of a handful of segments it is asked along whether they are as they were
        scanned = [step for step in steps if step.startswith("SCAN") and step != "SCAN segments"]
        assert any(step.startswith("SEARCH") and "id>?)" in step for step in steps)
        # the two answers, a branch's own page, or the JSON of one row
        assert all(" anon_" in step or "CONSTANT ROW" in step for step in scanned), steps
    else:
        whole = [step for step in steps if "Seq Scan" in step and " on segments " not in step]
        assert not [*whole, *(step for step in steps if "Parallel" in step)], steps
        # a branch gives a page at most, and a union of them is sorted as a whole
        assert max(map(rows_given, steps)) <= PAGE * branches, steps
        assert any(" Cond: " in step and " > " in step for step in steps), steps
