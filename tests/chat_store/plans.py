"""How SQLite goes about what is asked of it."""

from collections.abc import Awaitable
from typing import Any

from sqlalchemy import Pool, PoolProxiedConnection, event

from chat_store.database.engine import Database


async def plan_of(database: Database, work: Awaitable[Any]) -> list[str]:
    """The steps of the last statement that `work` executes."""
    executed: list[str] = []

    def trace(connection: PoolProxiedConnection, *_: Any) -> None:
        connection.run_async(
            lambda driver: driver.in_thread(lambda c: c.set_trace_callback(executed.append))
        )

    event.listen(Pool, "checkout", trace)
    try:
        await work
    finally:
        event.remove(Pool, "checkout", trace)
    *_, statement = (one for one in executed if one not in ("BEGIN", "ROLLBACK"))
    async with database.autocommit() as connection:
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")
        return [str(row[-1]) for row in plan]
