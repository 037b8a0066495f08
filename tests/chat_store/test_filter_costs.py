"""What a filter with long lists costs grows with the lists, and with the records: not with both."""

from time import perf_counter
from typing import Any

import pytest
from sqlalchemy import func, select, text

from chat_store.database.bulk.prepared import Prepared, prepared
from chat_store.database.engine import Database
from chat_store.filters.fields import USER_FIELDS
from chat_store.filters.parsing import parse_filter
from chat_store.models import User
from chat_store.sql.filters import USER_BINDING, where
from chat_store.sql.stores import sql_chat_store
from chat_store.sql.tables import users
from tests.chat_store.finding import START

RECORDS = 4_000
OPERANDS = 10_000
# each of 4,000 records beside each of 10,000 operands takes hundreds of times as long as either
MOST_TIMES = 10
ROUNDS = 3


def name(number: int) -> str:
    """One of those that records have."""
    return f"name {number} {'x' * 60}"


def filters(most: int) -> dict[str, dict[str, Any]]:
    """With each list operand that there is, of so many operands."""
    names = [name(n) for n in range(most)]
    return {
        "$in of ids": {"id": {"$in": names}},
        "$nin of ids": {"id": {"$nin": names}},
        "$in of strings": {"string": {"$in": names}},
        "$nin of strings": {"string": {"$nin": names}},
        "$in of numbers": {"number": {"$in": list(range(most))}},
        "$in of objects": {"object": {"$in": [{"a": n} for n in range(most)]}},
        "$in of arrays": {"array": {"$in": [[n] for n in range(most)]}},
        "$in on a custom array": {"array": {"$in": names}},
        "$in on a built-in array": {"teams": {"$in": names}},
        "$in under another name": {"team": {"$in": names}},
        "$eq of a custom array": {"array": ["here", *names[1:]]},
        "$eq of a built-in array": {"teams": ["here", *names[1:]]},
        "$eq of an object": {"object": {"a": ["here", *names[1:]]}},
        "$contains of an array": {"array": {"$contains": ["here", *names[1:]]}},
        "$contains of the same": {"array": {"$contains": ["here"] * most}},
        "$contains of teams": {"teams": {"$contains": ["here", *names[1:]]}},
        "$contains of an object": {"object": {"$contains": {"a": ["here", *names[1:]]}}},
    }


def user(number: int) -> User:
    other = name(number + OPERANDS)
    custom = {
        "string": other,
        "number": -number,
        "array": ["here", other],
        "object": {"a": ["here"]},
    }
    return User(id=other, teams=("here", other), custom=custom)


async def seconds(database: Database, statement: Prepared) -> float:
    """The best of some rounds: whatever else the machine does only adds time."""
    taken = []
    for _ in range(ROUNDS):
        async with database.autocommit() as connection:
            begin = perf_counter()
            await statement.row(connection)
            taken.append(perf_counter() - begin)
    return min(taken)


def counting(database: Database, document: dict[str, Any], records: int) -> Prepared:
    """How many of the first so many records match."""
    first = select(users).order_by(users.c.id).limit(records).subquery("users")
    columns = dict(first.c)
    binding = type(USER_BINDING)(columns=columns, custom=first.c.custom)
    matching = where(parse_filter(document, USER_FIELDS), binding, database.dialect)
    statement = select(func.count()).select_from(first).where(matching)
    return prepared(statement, database.sql_dialect)


@pytest.mark.alone
async def test_long_lists_are_not_gone_through_for_each_record(database: Database) -> None:
    chat = sql_chat_store(database)
    for first in range(0, RECORDS, 1_000):
        await chat.users.upsert([user(first + n) for n in range(1_000)], START)
    async with database.transaction() as connection:
        await connection.execute(text("ANALYZE"))
    times = {}
    long, short = filters(OPERANDS), filters(20)
    for what, document in long.items():
        both = await seconds(database, counting(database, document, RECORDS))
        the_list = await seconds(database, counting(database, document, 1))
        the_records = await seconds(database, counting(database, short[what], RECORDS))
        times[what] = both / (the_list + the_records)

    assert {what: ratio for what, ratio in times.items() if ratio > MOST_TIMES} == {}
