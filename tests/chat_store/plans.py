"""How SQLite goes about what is asked of it."""

from collections.abc import Awaitable
from typing import Any

from sqlalchemy import Engine, event

from chat_store.database import Database


async def plan_of(database: Database, work: Awaitable[Any]) -> list[str]:
    """The steps of the last statement that `work` executes."""
    executed: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_rest: Any) -> None:
        executed.append((statement, values))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        await work
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    statement, values = executed[-1]
    async with database.look() as connection:
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        return [str(row[-1]) for row in plan]
