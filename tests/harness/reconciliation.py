"""The conservation law, recounted from the database with plain SQL and none of our code."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from sqlalchemy.engine import make_url

from tests.harness.event_loops import run_in_new_loop

# what a question meets while PostgreSQL is away
DATABASE_IS_DOWN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

_Questions = Mapping[str, str]

_QUESTIONS = {
    "campaign": "SELECT status, targets_total FROM campaigns WHERE id = $1",
    "messages": """
        SELECT count(*), count(DISTINCT target_id), count(DISTINCT id)
        FROM messages WHERE campaign_id = $1""",
    "outcomes": """
        SELECT reason, count(*) FROM campaign_outcomes WHERE campaign_id = $1 GROUP BY reason""",
    "outcome_kinds": """
        SELECT outcome, count(*) FROM campaign_outcomes WHERE campaign_id = $1 GROUP BY outcome""",
    "shards": """
        SELECT coalesce(sum(messages_sent), 0), coalesce(sum(targets_skipped), 0),
            coalesce(sum(targets_failed), 0), coalesce(sum(channels_created), 0),
            count(*), coalesce(sum(CASE WHEN finished THEN 1 ELSE 0 END), 0)
        FROM campaign_shards WHERE campaign_id = $1""",
    "handled_twice": """
        SELECT count(*) FROM messages AS m JOIN campaign_outcomes AS o
        ON o.campaign_id = m.campaign_id AND o.target_id = m.target_id WHERE m.campaign_id = $1""",
    # what a message belongs to is there, and counts exactly what is in it
    "astray": """
        SELECT count(*) FROM messages AS m LEFT JOIN channels AS c ON c.cid = m.cid
        WHERE m.campaign_id = $1 AND (c.cid IS NULL
            OR c.member_count <> (SELECT count(*) FROM members AS n WHERE n.cid = m.cid)
            OR c.message_count <> (SELECT count(*) FROM messages AS o WHERE o.cid = m.cid))""",
}

_ONE_BY_ONE = {
    "outcomes": """
        SELECT target_id, 'sent' FROM messages WHERE campaign_id = $1
        UNION ALL SELECT target_id, reason FROM campaign_outcomes WHERE campaign_id = $1"""
}
_SENT_AT = {"messages": "SELECT target_id, created_at FROM messages WHERE campaign_id = $1"}
_MESSAGES = {"messages": "SELECT count(*) FROM messages WHERE campaign_id = $1"}
_LEASES = {
    "owners": """
        SELECT lease_owner FROM campaign_shards
        WHERE campaign_id = $1 AND lease_owner IS NOT NULL ORDER BY shard"""
}


@dataclass(frozen=True, slots=True)
class CampaignTotals:
    """What the tables say about a campaign: rows counted one by one, and the counters."""

    status: str
    targets_total: int
    messages: int
    targets_with_message: int
    reasons: dict[str, int]
    skipped: int
    failed: int
    counted_sent: int
    counted_skipped: int
    counted_failed: int
    counted_channels: int
    shards: int
    finished_shards: int
    handled_twice: int
    orphaned: int


def recount(database_url: str, campaign_id: str) -> CampaignTotals:
    answers = _ask(database_url, campaign_id, _QUESTIONS)
    ((status, targets_total),) = answers["campaign"]
    ((messages, targets, ids),) = answers["messages"]
    assert messages == ids
    ((sent, skipped, failed, channels, shards, finished),) = answers["shards"]
    kinds = dict(answers["outcome_kinds"])
    return CampaignTotals(
        status=status,
        targets_total=targets_total,
        messages=messages,
        targets_with_message=targets,
        reasons=dict(answers["outcomes"]),
        skipped=kinds.pop("skipped", 0),
        failed=kinds.pop("failed", 0),
        counted_sent=int(sent),
        counted_skipped=int(skipped),
        counted_failed=int(failed),
        counted_channels=int(channels),
        shards=shards,
        finished_shards=int(finished),
        handled_twice=answers["handled_twice"][0][0],
        orphaned=answers["astray"][0][0],
    )


def outcomes(database_url: str, campaign_id: str) -> dict[str, str]:
    """Of each target that has one: `sent`, or the reason why not."""
    rows = _ask(database_url, campaign_id, _ONE_BY_ONE)["outcomes"]
    found = dict(map(tuple, rows))
    assert len(found) == len(rows)
    return found


def messages_sent_at(database_url: str, campaign_id: str) -> dict[str, datetime]:
    """When each target got its message."""
    rows = _ask(database_url, campaign_id, _SENT_AT)["messages"]
    return {target: _moment(created_at) for target, created_at in rows}


def count_messages(database_url: str, campaign_id: str) -> int:
    """A part of the recount, for whoever looks again and again."""
    ((count,),) = _ask(database_url, campaign_id, _MESSAGES)["messages"]
    return int(count)


def lease_owners(database_url: str, campaign_id: str) -> list[str]:
    """Who has a shard of the campaign, as `host:pid`."""
    return [owner for (owner,) in _ask(database_url, campaign_id, _LEASES)["owners"]]


def _moment(stored: Any) -> datetime:
    """A time of PostgreSQL's, or SQLite's microseconds."""
    if isinstance(stored, datetime):
        return stored
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=stored)


def assert_consistent(totals: CampaignTotals) -> None:
    """Holds at any moment: each target once, and every counter says what the rows say."""
    assert totals.messages == totals.targets_with_message == totals.counted_sent, totals
    assert totals.skipped == totals.counted_skipped, totals
    assert totals.failed == totals.counted_failed, totals
    assert totals.handled_twice == 0, totals
    assert totals.orphaned == 0, totals


def assert_everyone_has_one_outcome(
    database_url: str, campaign_id: str, expected_targets: int
) -> CampaignTotals:
    """Holds once the campaign is completed: everyone of the audience has exactly one outcome."""
    totals = recount(database_url, campaign_id)
    assert_consistent(totals)
    assert totals.status == "completed", totals
    assert totals.finished_shards == totals.shards > 0, totals
    handled = totals.messages + totals.skipped + totals.failed
    assert handled == totals.targets_total == expected_targets, totals
    return totals


def _ask(database_url: str, campaign_id: str, questions: _Questions) -> dict[str, list[Any]]:
    url = make_url(database_url)
    if url.get_backend_name() == "postgresql":
        dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        return run_in_new_loop(_ask_postgres(dsn, campaign_id, questions))
    with closing(sqlite3.connect(f"file:{url.database}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        return {
            name: connection.execute(question.replace("$1", "?1"), [campaign_id]).fetchall()
            for name, question in questions.items()
        }


async def _ask_postgres(dsn: str, campaign_id: str, questions: _Questions) -> dict[str, list[Any]]:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return {
                name: await connection.fetch(question, campaign_id)
                for name, question in questions.items()
            }
    finally:
        await connection.close()
