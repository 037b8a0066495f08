"""Counts a campaign's rows one by one, without using any counter."""

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.errors import CampaignNotFoundError
from campaign_service.campaigns.invariants import CampaignRecount, Counters
from campaign_service.campaigns.model import Status
from campaign_service.storage.tables import COUNTERS, campaign_outcomes, campaign_shards, campaigns
from chat_store.database.engine import Database
from chat_store.sql.tables import channels, members, messages


async def recount(database: Database, campaign_id: str) -> CampaignRecount:
    """Counts in one snapshot, so that the sums agree while the campaign is being sent.

    Reads every message of the campaign and its channel. Raises `CampaignNotFoundError`.
    """
    async with database.snapshot() as connection:
        campaign = (
            await connection.execute(
                select(campaigns.c.status, campaigns.c.targets_total).where(
                    campaigns.c.id == campaign_id
                )
            )
        ).one_or_none()
        if campaign is None:
            raise CampaignNotFoundError(campaign_id)
        of_campaign = messages.c.campaign_id == campaign_id
        sent = await connection.execute(
            select(func.count(), func.count(messages.c.target_id.distinct())).where(of_campaign)
        )
        count, targets = sent.one()
        table = campaign_outcomes.c
        outcomes = await connection.execute(
            select(table.outcome, table.reason, func.count())
            .where(table.campaign_id == campaign_id)
            .group_by(table.outcome, table.reason)
        )
        both = exists().where(
            table.campaign_id == campaign_id, table.target_id == messages.c.target_id
        )
        in_a_channel = exists().where(channels.c.cid == messages.c.cid)
        channel_counts = (await connection.execute(_channel_counts(of_campaign))).one()
        return CampaignRecount(
            status=Status(campaign.status),
            targets_total=campaign.targets_total,
            messages=count,
            targets_with_message=targets,
            outcomes={(outcome, reason): rows for outcome, reason, rows in outcomes},
            targets_with_both=await _messages(connection, and_(of_campaign, both)),
            counters=await _counters(connection, campaign_id),
            orphaned_messages=await _messages(connection, and_(of_campaign, not_(in_a_channel))),
            channels=channel_counts.channels,
            wrong_member_counts=channel_counts.wrong_members,
            wrong_message_counts=channel_counts.wrong_messages,
        )


async def _messages(connection: AsyncConnection, condition: ColumnElement[bool]) -> int:
    counted = await connection.scalar(select(func.count(messages.c.id)).where(condition))
    return int(counted or 0)


async def _counters(connection: AsyncConnection, campaign_id: str) -> Counters:
    shards = campaign_shards.c
    sums = [func.coalesce(func.sum(shards[name]), 0).label(name) for name in COUNTERS]
    unfinished = func.coalesce(func.sum(case((shards.finished, 0), else_=1)), 0)
    row = (
        await connection.execute(
            select(
                *sums, func.count().label("shards"), unfinished.label("shards_unfinished")
            ).where(shards.campaign_id == campaign_id)
        )
    ).one()
    # PostgreSQL sums bigints to a numeric
    return Counters(**{name: int(value) for name, value in row._asdict().items()})


def _channel_counts(of_campaign: ColumnElement[bool]) -> Select[int, int, int]:
    cids = select(messages.c.cid).where(of_campaign).distinct().subquery("of_campaign")
    there = messages.alias("there")
    in_it = select(func.count()).where(there.c.cid == channels.c.cid).scalar_subquery()
    joined = select(func.count()).where(members.c.cid == channels.c.cid).scalar_subquery()
    return select(
        func.count().label("channels"),
        _count_where(channels.c.member_count != joined).label("wrong_members"),
        _count_where(channels.c.message_count != in_it).label("wrong_messages"),
    ).join_from(cids, channels, channels.c.cid == cids.c.cid)


def _count_where(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))
