"""Locks of a campaign's status: shared by pages, exclusive for its transitions."""

from collections.abc import Iterator

from sqlalchemy import Exists, Function, Text, bindparam, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.errors import DatabaseHeldError
from campaign_service.campaigns.holds import Because, Hold
from campaign_service.storage.tables import holds
from chat_store.database.bulk.batches import Write
from chat_store.database.engine import DialectName

_KEY: Function[int] = func.hashtextextended(bindparam("lock", type_=Text()), 0)
_SHARED = select(func.pg_advisory_xact_lock_shared(_KEY))
_EXCLUSIVE = select(func.pg_advisory_xact_lock(_KEY))


def lock_shared(dialect: DialectName, campaign_id: str) -> Iterator[Write]:
    """Locks the campaign's status until this transaction ends; pages share the lock.

    An advisory lock and not FOR SHARE on the row: PostgreSQL grants these in the order of
    arrival, so that a steady stream of pages can't keep `lock_exclusively` waiting. SQLite's write
    transactions exclude each other already.
    """
    if dialect == "postgresql":
        yield Write(_SHARED, {"lock": _name(campaign_id)})


async def lock_exclusively(
    connection: AsyncConnection, dialect: DialectName, campaign_id: str
) -> None:
    """Waits for pages being written, and lets no other begin until this transaction ends."""
    if dialect == "postgresql":
        await connection.execute(_EXCLUSIVE, {"lock": _name(campaign_id)})


def is_held() -> Exists:
    """Tests for a hold inside the statements that send or fire anything.

    So a hold and its end take effect in all processes of all replicas at once.
    """
    return select(literal(1)).select_from(holds).exists()


async def current_hold(connection: AsyncConnection) -> Hold | None:
    because = await connection.scalar(select(holds.c.because))
    return None if because is None else Hold(Because(because))


async def refuse_if_held(connection: AsyncConnection) -> None:
    """Raises `DatabaseHeldError` if the database is held."""
    if hold := await current_hold(connection):
        raise DatabaseHeldError(hold.because, hold.explanation)


def _name(campaign_id: str) -> str:
    return f"herald-campaign:{campaign_id}"
