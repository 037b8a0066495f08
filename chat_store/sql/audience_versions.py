"""A version per segment, raised with each change of its list.

The segment service raises it in the transaction that changes the list. The campaign service locks
the versions in the transaction that completes a campaign. So that transaction either sees a
change, or the change is acknowledged after it. Deleted segments have no version.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.bulk.row_sources import in_keys, key_parameters
from chat_store.database.engine import DialectName
from chat_store.sql.tables import audience_versions

_columns = audience_versions.c


async def add_version(connection: AsyncConnection, dialect: DialectName, segment_id: str) -> None:
    given = {"segment_id": [segment_id]}
    insert = insert_rows(dialect, audience_versions, given, constants={"version": 0})
    await connection.execute(*insert)


async def raise_version(connection: AsyncConnection, segment_id: str) -> None:
    await connection.execute(
        update(audience_versions)
        .where(_columns.segment_id == segment_id)
        .values(version=_columns.version + 1)
    )


async def remove_version(connection: AsyncConnection, segment_id: str) -> None:
    await connection.execute(delete(audience_versions).where(_columns.segment_id == segment_id))


async def versions(
    connection: AsyncConnection,
    dialect: DialectName,
    segment_ids: Sequence[str],
    *,
    held: bool = False,
) -> Mapping[str, int]:
    """Returns the versions of the segments that have not been deleted.

    `held` locks them until this transaction ends. Rows are locked in the order of their ids,
    because several such transactions may wait for the same segments. A transaction that changes a
    version locks one row and waits for no other.
    """
    statement = (
        select(_columns.segment_id, _columns.version)
        .where(in_keys(dialect, _columns.segment_id))
        .order_by(_columns.segment_id)
    )
    if held:
        statement = statement.with_for_update(read=True)
    found = await connection.execute(statement, key_parameters(dialect, segment_ids))
    return dict(map(tuple, found))
