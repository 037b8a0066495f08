"""A page of a stream is read by index ranges: the whole of no table is scanned or sorted."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from chat_store.models import Channel
from chat_store.store import ChannelDraft
from segment_service.segments import Shard, audience
from segment_service.sql.segments import load_segments
from segment_service.sql.target_pages import PageOfTargets, prepared_page
from tests.segment.running import CHANNEL, Service

MANY = 4_000
PAGE = 100
EXPLAIN = {
    "sqlite": "EXPLAIN QUERY PLAN ",
    "postgresql": "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ",
}


async def plan(service: Service, segments: list[str], shard: Shard, after: str) -> list[str]:
    """The steps by which the database reads the page after `after`."""
    database = service.database
    async with database.look() as connection:
        found = await load_segments(connection, database.dialect, segments)
    asked = PageOfTargets(tuple(segments), "anna", shard, PAGE)
    of = audience(segments, found, "anna")
    statement = prepared_page(asked, of, database.dialect, database.sql_dialect)
    async with database.look() as connection:
        rows = await connection.exec_driver_sql(
            EXPLAIN[database.dialect] + statement.text, statement.bound({"after": after})
        )
        return [str(row[-1]) for row in rows]


def rows_given(step: str) -> float:
    """How many rows PostgreSQL had from this step, those that it passed over not counted."""
    _, _, rest = step.partition("actual rows=")
    return float(rest.split()[0]) if rest else 0


async def many_channels(service: Service) -> None:
    await service.people(["anna"])
    drafts = [
        ChannelDraft(Channel(type="messaging", id=f"{number:05}"), ["anna"])
        for number in range(MANY)
    ]
    await service.chat.channels.upsert(drafts, service.clock())


@pytest.mark.parametrize(
    "asked",
    [
        ["list"],
        ["filter"],
        ["all"],
        ["list", "other list", "filter", "other filter"],
        ["channels"],
        ["senders"],
        ["channels", "senders", "channel list"],
    ],
    ids=" + ".join,
)
async def test_a_page_of_the_whole_and_of_a_shard_is_read_by_index_ranges(
    service: Service, asked: list[str]
) -> None:
    names = [f"user-{number:05}" for number in range(MANY)]
    cids = [f"messaging:{number:05}" for number in range(MANY)]
    of_channels = bool({"channels", "senders"} & set(asked))
    await (many_channels(service) if of_channels else service.people(names, country="USA"))
    made: dict[str, Callable[[], Awaitable[str]]] = {
        "list": lambda: service.listing(*names),
        "other list": lambda: service.listing(*names[::2]),
        "filter": lambda: service.matching({"country": "USA"}),
        "other filter": lambda: service.matching({"country": {"$gt": "A"}}),
        "all": service.all_users,
        "channels": lambda: service.matching({"type": "messaging"}, CHANNEL),
        "senders": service.senders_channels,
        "channel list": lambda: service.listing(*cids, type_=CHANNEL),
    }
    segments = [await made[name]() for name in asked]
    async with service.database.write() as connection:
        await connection.execute(text("ANALYZE"))

    # SQLite walks through the whole for any shard of it
    shards = [Shard(), Shard(1, 4)] if service.database.dialect == "postgresql" else [Shard()]
    for shard in shards:
        after = "messaging:02000" if of_channels else "user-02000"
        steps = await plan(service, segments, shard, after)
        assert_by_index_ranges(service, steps, len(asked))


def assert_by_index_ranges(service: Service, steps: list[str], branches: int) -> None:
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
