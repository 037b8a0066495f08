"""Writes entries of the event log, in the transaction of the change that they report."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Insert, Select, bindparam, case, func, literal, null, select
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.events import PAGE, EventType, pack_targets
from campaign_service.campaigns.model import Status
from campaign_service.storage.event_tables import event_log
from campaign_service.storage.ports import Lease
from campaign_service.storage.tables import campaign_shards, campaigns
from chat_store.database.bulk.batches import Write
from chat_store.database.bulk.inserts import insert_from
from chat_store.database.bulk.row_sources import Types, row_parameters, row_source
from chat_store.database.columns import Count, JsonValue, Key
from chat_store.database.engine import DialectName
from chat_store.page_rows import PageRows
from chat_store.sql.tables import members
from herald_rpc import tracing

# the shard of entries that are not pages
REVISION_SHARD = -1

_PLACES: Types = {"cid": Key, "target_id": Key}
_NONE: list[str] = []
_COLUMNS = tuple(column.name for column in event_log.columns if column.name != "position")


async def record_event(connection: AsyncConnection, dialect: DialectName, campaign_id: str) -> None:
    """Writes the campaign's new revision as an event, in the same transaction.

    The event of a start or a schedule also stores the trace of the call that made it.
    """
    traceparent = tracing.current().encode() or None
    parameters = {"of_campaign": campaign_id, "trace": traceparent}
    await connection.execute(_of_revision(dialect), parameters)


def page_entry(dialect: DialectName, lease: Lease, page: PageRows) -> Iterator[Write]:
    """Yields the write of the page's log entry; nothing for a page without messages.

    Execute it after the shard has counted the page and before the page is written, because it reads
    the state that the page changes.
    """
    if not page.messages:
        return
    targets, cids = page.messages["target_id"], page.messages["cid"]
    new_cids = page.channels["cid"] if page.channels else ()
    parameters: dict[str, Any] = {
        "of_campaign": lease.campaign_id,
        "of_shard": lease.shard,
        "moment": page.moment,
        "messages": len(targets),
        "channels": len(new_cids),
        "content": pack_targets(targets, cids, new_cids),
        "sender_id": page.sender_id,
    }
    if page.sender_joins:
        first_target = dict(zip(reversed(cids), reversed(targets), strict=True))
        joins = {
            "cid": page.sender_joins,
            "target_id": [first_target[cid] for cid in page.sender_joins],
        }
        parameters |= row_parameters(dialect, _PLACES, joins, "joins")
    if page.unhidden.get("cid"):
        shows = {"cid": page.unhidden["cid"], "target_id": page.unhidden["user_id"]}
        parameters |= row_parameters(dialect, _PLACES, shows, "shows")
    insert = _of_page(dialect, joins=bool(page.sender_joins), shows=bool(page.unhidden.get("cid")))
    yield Write(insert, parameters)


@cache
def _of_revision(dialect: DialectName) -> Insert:
    columns = campaigns.c
    type_ = case(
        (columns.status == Status.IN_PROGRESS, EventType.CAMPAIGN_STARTED.value),
        (
            (columns.status == Status.COMPLETED) & columns.deleted_at.is_(None),
            EventType.CAMPAIGN_COMPLETED.value,
        ),
        else_=EventType.CAMPAIGN_UPDATED.value,
    )
    values = {
        "campaign_id": columns.id,
        "revision": columns.revision,
        "shard": literal(REVISION_SHARD),
        "page": literal(0),
        "type": type_,
        "created_at": columns.updated_at,
        # `skip_webhook` and `skip_push` mute only what a campaign generates
        "skip_webhook": literal(False),  # noqa: FBT003 - a value
        "skip_push": literal(True),  # noqa: FBT003 - a value
        "messages": literal(0, Count),
        "channels": literal(0, Count),
        "content": case(
            (
                columns.status.in_([Status.IN_PROGRESS, Status.SCHEDULED]),
                bindparam("trace", type_=event_log.c.content.type),
            ),
            else_=null(),
        ),
        "joined": literal(_NONE, JsonValue),
        "shown": literal(_NONE, JsonValue),
    }
    of_campaign = columns.id == bindparam("of_campaign", type_=Key)
    rows = select(*(values[name] for name in _COLUMNS)).where(of_campaign)
    return insert_from(dialect, event_log, _COLUMNS, rows)


@cache
def _of_page(dialect: DialectName, *, joins: bool, shows: bool) -> Insert:
    shards = campaign_shards.c
    values = {
        "campaign_id": campaigns.c.id,
        "revision": campaigns.c.revision,
        "shard": shards.shard,
        "page": shards.pages,
        "type": literal(PAGE),
        "created_at": bindparam("moment", type_=event_log.c.created_at.type),
        "skip_webhook": campaigns.c.skip_webhook,
        "skip_push": campaigns.c.skip_push,
        "messages": bindparam("messages", type_=Count),
        "channels": bindparam("channels", type_=Count),
        "content": bindparam("content", type_=event_log.c.content.type),
        "joined": _joining(dialect) if joins else literal(_NONE, JsonValue),
        "shown": _unhiding(dialect) if shows else literal(_NONE, JsonValue),
    }
    rows = (
        select(*(values[name] for name in _COLUMNS))
        .join_from(campaigns, campaign_shards, shards.campaign_id == campaigns.c.id)
        .where(
            campaigns.c.id == bindparam("of_campaign", type_=Key),
            shards.shard == bindparam("of_shard"),
            ~(campaigns.c.skip_webhook & campaigns.c.skip_push),
        )
    )
    return event_log.insert().from_select(list(_COLUMNS), rows)


def _joining(dialect: DialectName) -> ColumnElement[Any]:
    """Selects the targets whose channels the sender is not in yet."""
    given = row_source(dialect, _PLACES, "joins")
    sender = bindparam("sender_id", type_=Key)
    is_in = (
        select(members.c.cid)
        .where(members.c.cid == given.c["cid"], members.c.user_id == sender)
        .exists()
    )
    targets = select(given.c["target_id"].label("target_id")).select_from(given.source)
    return _as_json(targets.where(~is_in), dialect)


def _unhiding(dialect: DialectName) -> ColumnElement[Any]:
    """Selects the targets from whom their channel is still hidden."""
    given = row_source(dialect, _PLACES, "shows")
    is_member = (members.c.cid == given.c["cid"]) & (members.c.user_id == given.c["target_id"])
    targets = select(given.c["target_id"].label("target_id")).select_from(given.source)
    return _as_json(
        targets.where(select(members.c.cid).where(is_member, members.c.hidden).exists()), dialect
    )


def _as_json(targets: Select[Any], dialect: DialectName) -> ColumnElement[Any]:
    found = targets.subquery()
    if dialect == "sqlite":
        return select(func.json_group_array(found.c.target_id)).scalar_subquery()
    in_one = func.jsonb_agg(found.c.target_id, type_=JsonValue)
    return select(func.coalesce(in_one, literal(_NONE, JsonValue))).scalar_subquery()
