"""Small statements for metrics, which run every few seconds while campaigns are sent."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ScalarSelect,
    Select,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
)

from campaign_service.campaigns.accounts import Account
from campaign_service.campaigns.model import Status
from campaign_service.campaigns.outcomes import Outcome
from campaign_service.campaigns.waiting import RunningCampaign
from campaign_service.storage.event_tables import (
    event_log,
    event_log_ends,
    webhook_lanes,
    webhooks,
)
from campaign_service.storage.history import counter_sums
from campaign_service.storage.locks import is_held
from campaign_service.storage.ports import GLOBAL_LIMIT
from campaign_service.storage.tables import (
    campaign_outcomes,
    campaign_shards,
    campaigns,
    rate_limits,
)
from chat_store.database.columns import Key, from_microseconds
from chat_store.database.engine import Database
from chat_store.sql.messages import sent_messages

COUNTED = {
    Outcome.SENT: "messages_sent",
    Outcome.SKIPPED: "targets_skipped",
    Outcome.FAILED: "targets_failed",
}
_UNDER_WAY = (Status.IN_PROGRESS, Status.SCHEDULED)
_columns = campaigns.c
_shards = campaign_shards.c
_lanes = webhook_lanes.c


class SqlMeasures:
    """Reads single statements, each a snapshot by itself. Writes nothing."""

    def __init__(self, database: Database, *, has_global_limit: bool = False) -> None:
        self._database = database
        self._has_global_limit = has_global_limit

    async def running(self, most: int) -> Sequence[RunningCampaign]:
        """Returns campaigns in progress, those first that began first, and then scheduled ones."""
        async with self._database.autocommit() as connection:
            rows = await connection.execute(_running(self._has_global_limit), {"most": most})
            return [
                RunningCampaign(
                    campaign_id=row.id,
                    status=Status(row.status),
                    status_reason=row.status_reason,
                    targets_total=row.targets_total,
                    handled={outcome: getattr(row, name) for outcome, name in COUNTED.items()},
                    leased_until=row.leased_until,
                    reserved_until=_moment(row.reserved_until),
                    is_held=bool(row.is_held),
                )
                for row in rows
            ]

    async def under_way(self) -> Mapping[Status, int]:
        """Returns how many campaigns are in progress, and how many are scheduled."""
        statement = (
            select(_columns.status, func.count().label("campaigns"))
            .where(_columns.status.in_(_UNDER_WAY), _columns.deleted_at.is_(None))
            .group_by(_columns.status)
        )
        async with self._database.autocommit() as connection:
            found = {row.status: row.campaigns for row in await connection.execute(statement)}
        return {status: found.get(status, 0) for status in _UNDER_WAY}

    async def account(self, campaign_id: str) -> Account | None:
        """Counts the campaign's rows one by one; None for an unknown campaign."""
        async with self._database.autocommit() as connection:
            rows = await connection.execute(_account(), {"id": campaign_id})
            row = rows.one_or_none()
        return row and Account(
            campaign_id,
            Status(row.status),
            row.targets_total,
            {outcome: getattr(row, name) for outcome, name in COUNTED.items()},
            {outcome: getattr(row, outcome) for outcome in Outcome},
        )

    async def end_of_log(self) -> int:
        """Returns the position that the next entry gets."""
        async with self._database.autocommit() as connection:
            return int(await connection.scalar(select(event_log_ends.c.next_position)) or 1)

    async def webhooks_reached(self) -> int | None:
        """Returns the position of the first entry that a webhook still has to get."""
        async with self._database.autocommit() as connection:
            reached = await connection.scalar(_webhooks_reached())
        return None if reached is None else int(reached)

    async def written_at(self, position: int) -> datetime | None:
        """Returns when the first entry from this position on was written; None without one."""
        statement = (
            select(event_log.c.created_at)
            .where(event_log.c.position >= position)
            .order_by(event_log.c.position)
            .limit(1)
        )
        async with self._database.autocommit() as connection:
            moment: datetime | None = await connection.scalar(statement)
        return moment


@cache
def _running(has_global_limit: bool) -> Select[Any]:  # noqa: FBT001 - a setting
    leased_until = (
        select(func.max(_shards.lease_until))
        .where(_shards.campaign_id == _columns.id, ~_shards.finished)
        .scalar_subquery()
    )
    is_limited = and_(
        rate_limits.c.campaign_id == _columns.id, _columns.max_messages_per_second > 0
    )
    if has_global_limit:
        is_limited = or_(is_limited, rate_limits.c.campaign_id == GLOBAL_LIMIT)
    reserved_until = (
        select(func.max(rate_limits.c.scheduled_at)).where(is_limited).scalar_subquery()
    )
    return (
        select(
            _columns.id,
            _columns.status,
            _columns.status_reason,
            _columns.targets_total,
            *counter_sums(),
            leased_until.label("leased_until"),
            reserved_until.label("reserved_until"),
            is_held().label("is_held"),
        )
        .where(_columns.status.in_(_UNDER_WAY), _columns.deleted_at.is_(None))
        .order_by(
            case((_columns.status == Status.IN_PROGRESS, 0), else_=1),
            func.coalesce(_columns.started_at, _columns.scheduled_for),
            _columns.id,
        )
        .limit(bindparam("most"))
    )


@cache
def _account() -> Select[Any]:
    outcomes = campaign_outcomes.c
    rows = {
        Outcome.SENT: sent_messages(_columns.id),
        **{
            outcome: select(outcomes.target_id).where(
                outcomes.campaign_id == _columns.id, outcomes.outcome == outcome
            )
            for outcome in (Outcome.SKIPPED, Outcome.FAILED)
        },
    }
    return select(
        _columns.status,
        _columns.targets_total,
        *counter_sums(),
        *(_count(found).label(outcome) for outcome, found in rows.items()),
    ).where(_columns.id == bindparam("id", type_=Key))


def _count(rows: Select[Any]) -> ScalarSelect[int]:
    return rows.with_only_columns(func.count()).correlate(campaigns).scalar_subquery()


@cache
def _webhooks_reached() -> Select[Any]:
    has_events = or_(
        _lanes.position < _lanes.end_position,
        and_(_lanes.position == _lanes.end_position, _lanes.number < _lanes.end_number),
    )
    in_lanes = (
        select(func.min(_lanes.position))
        .join(webhooks, webhooks.c.id == _lanes.webhook_id)
        .where(webhooks.c.enabled, _lanes.replay_id == "", has_events)
        .scalar_subquery()
    )
    next_position = select(event_log_ends.c.next_position).scalar_subquery()
    before_lanes = (
        select(func.min(webhooks.c.position))
        .where(webhooks.c.enabled, webhooks.c.position < next_position)
        .scalar_subquery()
    )
    # the smaller of both, of which either may be missing
    return select(
        case(
            (in_lanes.is_(None), before_lanes),
            (before_lanes.is_(None), in_lanes),
            (in_lanes < before_lanes, in_lanes),
            else_=before_lanes,
        )
    )


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_microseconds(microseconds)
