"""Which audience a campaign has, in SQL: whether targets may have been added behind a walk."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_service.campaigns.errors import ReferenceGoneError
from campaign_service.storage.tables import campaigns
from chat_store.database.engine import DialectName
from chat_store.sql.audience_versions import versions


async def audience_version(
    connection: AsyncConnection, dialect: DialectName, campaign_id: str, *, held: bool = False
) -> str:
    """Differs when the list of a segment has changed. Users can't change during a run.

    `held` keeps it as it is until this transaction ends. Raises `ReferenceGoneError` for a segment
    that has been deleted.
    """
    statement = select(campaigns.c.segment_ids).where(campaigns.c.id == campaign_id)
    segment_ids: Sequence[str] = (await connection.scalars(statement)).one()
    found = await versions(connection, dialect, segment_ids, held=held)
    for id_ in segment_ids:
        if id_ not in found:
            raise ReferenceGoneError("segment", id_)
    return " ".join(str(found[id_]) for id_ in segment_ids)
