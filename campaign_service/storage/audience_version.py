"""The version of a campaign's audience: shows whether targets were added behind the cursor."""

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
    """Returns a version that changes with each segment's list. Users never change during a run.

    `held` locks it until this transaction ends. Raises `ReferenceGoneError` for a deleted segment.
    """
    statement = select(campaigns.c.segment_ids).where(campaigns.c.id == campaign_id)
    segment_ids: Sequence[str] = (await connection.scalars(statement)).one()
    found = await versions(connection, dialect, segment_ids, held=held)
    for id_ in segment_ids:
        if id_ not in found:
            raise ReferenceGoneError("segment", id_)
    return " ".join(str(found[id_]) for id_ in segment_ids)
