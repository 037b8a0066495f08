"""The sender's progress in SQL: leases, pages, and the end of a run."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    Select,
    Update,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns import journal
from campaign_service.campaigns.errors import NobodySentToError, RunEndedError
from campaign_service.campaigns.model import TRANSITIONS, Action, Status
from campaign_service.campaigns.outcomes import Outcome
from campaign_service.planning.page import PlannedPage
from campaign_service.storage.audience_version import audience_version
from campaign_service.storage.event_entries import page_entry
from campaign_service.storage.history import record_revision
from campaign_service.storage.locks import is_held, lock_exclusively, lock_shared
from campaign_service.storage.ports import Lease, Reservation
from campaign_service.storage.quota import MonthFullError, MonthlyQuota
from campaign_service.storage.rate_limits import reserve
from campaign_service.storage.tables import COUNTERS, campaign_outcomes, campaign_shards, campaigns
from chat_store.database.bulk.batches import Write, execute_in_transaction
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.bulk.row_sources import inline_rows
from chat_store.database.columns import Count, Key, UtcTime
from chat_store.database.engine import Database, DialectName
from chat_store.errors import StalePageError
from chat_store.models import Values
from chat_store.sql.messages import sent_messages, sent_targets
from chat_store.sql.page_writes import page_writes

_shards = campaign_shards.c
_running = campaigns.alias("running")

_HAS_LEASE = and_(
    _shards.campaign_id == bindparam("of_campaign"),
    _shards.shard == bindparam("of_shard"),
    _shards.fence == bindparam("of_fence"),
)
# the lease's shard, unless it was claimed again, or the campaign has stopped or is held
_LEASED_SHARD = update(campaign_shards).where(
    _HAS_LEASE,
    exists().where(
        _running.c.id == bindparam("of_campaign"), _running.c.status == Status.IN_PROGRESS
    ),
    ~is_held(),
)
_ADVANCE = _LEASED_SHARD.values(
    cursor=bindparam("reached"),
    fails=literal(False),  # noqa: FBT003 - a value
    pages=_shards.pages + bindparam("more_pages"),
    **{name: _shards[name] + bindparam(f"more_{name}") for name in COUNTERS},
)
# changes nothing; matches no row if the campaign has sent nothing
_others = campaign_shards.alias("others").c
_REQUIRE_SENT = (
    update(campaign_shards)
    .where(
        _HAS_LEASE,
        exists().where(
            _others.campaign_id == bindparam("of_campaign"), _others.messages_sent > literal(0)
        ),
    )
    .values(fence=_shards.fence)
)


class SqlRunStore:
    """See `campaign_service.storage.ports.RunStore`."""

    def __init__(self, database: Database, *, monthly_quota: int = 0) -> None:
        self._database = database
        self._quota = MonthlyQuota(database, monthly_quota)

    async def claim(self, owner: str, now: datetime, until: datetime) -> Lease | None:
        async with self._database.autocommit() as connection:
            # idle senders poll often, and must not take SQLite's write lock for nothing
            if (await connection.execute(_claimable(), {"now": now})).first() is None:
                return None
        # a CTE: PostgreSQL might run a subquery several times, and lock another shard each time
        chosen = _claimable().with_for_update(of=campaign_shards, skip_locked=True).cte("chosen")
        statement = (
            update(campaign_shards)
            .where(tuple_(_shards.campaign_id, _shards.shard).in_(select(chosen)))
            .where(_unleased())
            .values(lease_owner=owner, lease_until=until, fence=_shards.fence + 1)
            .returning(
                _shards.campaign_id,
                _shards.shard,
                _shards.shard_count,
                _shards.fence,
                _shards.cursor,
                _shards.pass_number,
                _shards.audience_version,
            )
        )
        async with self._database.transaction("run.claim") as connection:
            row = (await connection.execute(statement, {"now": now})).one_or_none()
        return None if row is None else Lease(**row._asdict())

    async def renew(self, lease: Lease, until: datetime) -> None:
        async with self._database.transaction("run.renew") as connection:
            await _execute_guarded(connection, lease, _LEASED_SHARD.values(lease_until=until))

    async def is_lost(self, lease: Lease) -> bool:
        """Returns whether another sender has claimed the shard since."""
        fence = select(_shards.fence).where(
            _shards.campaign_id == lease.campaign_id, _shards.shard == lease.shard
        )
        async with self._database.autocommit() as connection:
            return bool(await connection.scalar(fence) != lease.fence)

    async def release(self, lease: Lease, claimable_from: datetime | None = None) -> None:
        async with self._database.transaction("run.release") as connection:
            given_back = _LEASED_SHARD.values(lease_owner=None, lease_until=claimable_from)
            await connection.execute(given_back, _lease_parameters(lease))

    async def begin_pass(self, lease: Lease) -> None:
        async with self._database.transaction("run.begin-pass") as connection:
            dialect = self._database.dialect
            version = await audience_version(connection, dialect, lease.campaign_id)
            await _execute_guarded(
                connection, lease, _LEASED_SHARD.values(audience_version=version)
            )

    async def targets_with_outcome(
        self, campaign_id: str, target_ids: Sequence[str]
    ) -> Collection[str]:
        dialect = self._database.dialect
        given = inline_rows(dialect, {"target_id": Key}, {"target_id": target_ids})
        # not a join, for which SQLite would scan the list for each outcome of the campaign
        refused = select(campaign_outcomes.c.target_id).where(
            campaign_outcomes.c.campaign_id == campaign_id,
            campaign_outcomes.c.target_id.in_(
                select(given.c["target_id"]).select_from(given.source)
            ),
        )
        async with self._database.snapshot() as connection:
            sent = await sent_targets(connection, dialect, campaign_id, target_ids)
            return {*sent, *(await connection.scalars(refused))}

    async def reserve(
        self, limits: Mapping[str, int], messages: int, since: datetime, now: datetime
    ) -> Reservation:
        async with self._database.transaction("run.reserve") as connection:
            return await reserve(connection, self._database.dialect, limits, messages, since, now)

    async def commit_page(self, lease: Lease, page: PlannedPage, cursor: str) -> None:
        await self._quota.prepare(page)
        # built before the transaction, which on SQLite blocks all other writers
        writes = [
            *_writes(self._database.dialect, lease, page, cursor),
            *self._quota.writes(page),
        ]
        try:
            await execute_in_transaction(self._database, "run.page", writes)
        except MonthFullError:
            raise await self._quota.reached(lease.campaign_id, page) from None

    async def recount(self, lease: Lease) -> None:
        async with self._database.transaction("run.recount") as connection:
            # locks out pages, which must not be written between two counts
            await lock_exclusively(connection, self._database.dialect, lease.campaign_id)
            rows = {
                "messages_sent": _count(sent_messages(lease.campaign_id)),
                "targets_skipped": _count(_outcomes(lease.campaign_id, Outcome.SKIPPED)),
                "targets_failed": _count(_outcomes(lease.campaign_id, Outcome.FAILED)),
            }
            own = {name: count - _of_other_shards(lease, name) for name, count in rows.items()}
            await _execute_guarded(connection, lease, _LEASED_SHARD.values(own))

    async def finish_pass(self, lease: Lease, now: datetime) -> None:
        of_campaign = _shards.campaign_id == lease.campaign_id
        async with self._database.transaction("run.finish-pass") as connection:
            await lock_exclusively(connection, self._database.dialect, lease.campaign_id)
            done = _LEASED_SHARD.values(finished=True, lease_owner=None, lease_until=None)
            await _execute_guarded(connection, lease, done)
            unfinished = exists().where(of_campaign, ~_shards.finished)
            if await connection.scalar(select(unfinished)):
                return
            dialect = self._database.dialect
            version = await audience_version(connection, dialect, lease.campaign_id, held=True)
            again = (
                update(campaign_shards)
                .where(of_campaign, _shards.audience_version != version)
                .values(finished=False, cursor="", pass_number=_shards.pass_number + 1)
            )
            if (await connection.execute(again)).rowcount:
                return
            await self._complete(connection, lease.campaign_id, now)
            counts = await _counts(connection, lease.campaign_id)
        journal.completed(lease.campaign_id, **counts)

    async def abort(self, lease: Lease, reason: str, now: datetime) -> None:
        async with self._database.transaction("run.abort") as connection:
            await lock_exclusively(connection, self._database.dialect, lease.campaign_id)
            await _execute_guarded(
                connection, lease, _LEASED_SHARD.values(lease_owner=None, lease_until=None)
            )
            await self._end(connection, lease.campaign_id, Action.ABORT, now, status_reason=reason)
            counts = await _counts(connection, lease.campaign_id)
        journal.stopped(lease.campaign_id, reason, **counts)

    async def abort_unless_others_send(
        self, lease: Lease, reason: str, now: datetime, retried_at: datetime
    ) -> bool:
        async with self._database.transaction("run.abort-unless-others-send") as connection:
            await lock_exclusively(connection, self._database.dialect, lease.campaign_id)
            may_send = and_(_others.shard != lease.shard, ~_others.finished, ~_others.fails)
            goes_on = await connection.scalar(
                select(
                    exists().where(
                        _others.campaign_id == lease.campaign_id,
                        or_(_others.messages_sent > 0, may_send),
                    )
                )
            )
            given_back = _LEASED_SHARD.values(
                fails=True, lease_owner=None, lease_until=retried_at if goes_on else None
            )
            await _execute_guarded(connection, lease, given_back)
            if not goes_on:
                await self._end(
                    connection, lease.campaign_id, Action.ABORT, now, status_reason=reason
                )
        if not goes_on:
            journal.stopped(lease.campaign_id, reason)
        return not goes_on

    async def set_status_reason(self, lease: Lease, reason: str) -> None:
        async with self._database.transaction("run.set-reason") as connection:
            changed = await connection.execute(
                update(campaigns)
                .where(
                    campaigns.c.id == lease.campaign_id,
                    campaigns.c.status == Status.IN_PROGRESS,
                    # senders of several shards report the same
                    campaigns.c.status_reason != reason,
                    exists().where(_HAS_LEASE),
                    ~is_held(),
                )
                .values(status_reason=reason),
                _lease_parameters(lease),
            )
        if changed.rowcount:
            journal.waits(lease.campaign_id, reason)

    async def _complete(self, connection: AsyncConnection, campaign_id: str, now: datetime) -> None:
        outcomes = _shards.messages_sent + _shards.targets_skipped + _shards.targets_failed
        handled = (
            select(func.sum(outcomes)).where(_shards.campaign_id == campaign_id).scalar_subquery()
        )
        await self._end(
            connection,
            campaign_id,
            Action.COMPLETE,
            now,
            status_reason="",
            completed_at=_not_before_last_change(now),
            targets_total=handled,
        )

    async def _end(
        self,
        connection: AsyncConnection,
        campaign_id: str,
        action: Action,
        now: datetime,
        **values: Any,
    ) -> None:
        await connection.execute(
            update(campaigns)
            .where(campaigns.c.id == campaign_id, campaigns.c.status == Status.IN_PROGRESS)
            .values(
                status=TRANSITIONS[action][Status.IN_PROGRESS],
                revision=campaigns.c.revision + 1,
                updated_at=_not_before_last_change(now),
                **values,
            )
        )
        await record_revision(connection, self._database.dialect, campaign_id)


async def _counts(connection: AsyncConnection, campaign_id: str) -> Mapping[str, int]:
    """Returns the campaign's counters, by their names."""
    sums = (func.coalesce(func.sum(_shards[name]), 0).label(name) for name in COUNTERS)
    found = await connection.execute(select(*sums).where(_shards.campaign_id == campaign_id))
    return {name: int(count) for name, count in found.mappings().one().items()}


def _writes(dialect: DialectName, lease: Lease, page: PlannedPage, cursor: str) -> Iterator[Write]:
    reasons = [not_sent.reason for not_sent in page.not_sent]
    failed = sum(reason.outcome is Outcome.FAILED for reason in reasons)
    progress = {
        "reached": cursor,
        "more_pages": 1 if page.rows.messages else 0,
        "more_messages_sent": page.sent,
        "more_channels_created": page.channels_created,
        "more_targets_skipped": len(reasons) - failed,
        "more_targets_failed": failed,
    }
    yield from lock_shared(dialect, lease.campaign_id)
    ended = RunEndedError(lease.campaign_id)
    yield Write(_ADVANCE, {**_lease_parameters(lease), **progress}, rows=1, on_mismatch=ended)
    if failure := page.first_failure:
        nobody = NobodySentToError(
            lease.campaign_id, failure.target_id, failure.reason.name, failure.explanation
        )
        yield Write(_REQUIRE_SENT, _lease_parameters(lease), rows=1, on_mismatch=nobody)
    yield from page_entry(dialect, lease, page.rows)
    yield from page_writes(dialect, page.rows)
    if reasons:
        refused: Values = {
            "target_id": [not_sent.target_id for not_sent in page.not_sent],
            "outcome": [reason.outcome for reason in reasons],
            "reason": reasons,
            "cid": [not_sent.cid for not_sent in page.not_sent],
        }
        constants = {"campaign_id": lease.campaign_id, "created_at": page.rows.moment}
        new = insert_rows(
            dialect, campaign_outcomes, refused, constants=constants, raise_on_conflict=True
        )
        stale = StalePageError("the outcome of a target")
        yield Write(*new, rows=len(reasons), on_mismatch=stale)


@cache
def _claimable() -> Select[Any]:
    """Selects the next shard of the campaign that was started first.

    Shards that fail come after those that have not been tried. Built once, because idle senders
    poll often.
    """
    return (
        select(_shards.campaign_id, _shards.shard)
        .join(campaigns, campaigns.c.id == _shards.campaign_id)
        .where(campaigns.c.status == Status.IN_PROGRESS, ~_shards.finished, _unleased(), ~is_held())
        .order_by(campaigns.c.started_at, _shards.fails, _shards.shard)
        .limit(1)
    )


def _unleased() -> ColumnElement[bool]:
    now = bindparam("now", type_=UtcTime())
    return or_(_shards.lease_until.is_(None), _shards.lease_until < now)


def _not_before_last_change(now: datetime) -> ColumnElement[datetime]:
    # never earlier than the last change, even if the clock went back
    before = campaigns.c.updated_at
    return case((before > now, before), else_=literal(now, UtcTime()))


def _count(rows: Select[Any]) -> ScalarSelect[int]:
    return select(func.count()).select_from(rows.subquery()).scalar_subquery()


def _outcomes(campaign_id: str, outcome: Outcome) -> Select[Any]:
    found = campaign_outcomes.c
    return select(found.target_id).where(found.campaign_id == campaign_id, found.outcome == outcome)


def _of_other_shards(lease: Lease, counter: str) -> ColumnElement[int]:
    others = campaign_shards.alias("others").c
    counted = select(func.coalesce(func.sum(others[counter]), 0)).where(
        others.campaign_id == lease.campaign_id, others.shard != lease.shard
    )
    # PostgreSQL sums bigints to a numeric
    return cast(counted.scalar_subquery(), Count)


def _lease_parameters(lease: Lease) -> dict[str, Any]:
    """Returns the parameters of statements with `_HAS_LEASE`."""
    return {"of_campaign": lease.campaign_id, "of_shard": lease.shard, "of_fence": lease.fence}


async def _execute_guarded(connection: AsyncConnection, lease: Lease, statement: Update) -> None:
    moved = await connection.execute(statement, _lease_parameters(lease))
    if moved.rowcount != 1:
        raise RunEndedError(lease.campaign_id)
