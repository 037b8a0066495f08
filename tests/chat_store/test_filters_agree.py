"""SQLite, PostgreSQL and the matcher give the same answer to any filter over any records."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, literal_column, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from chat_store.database.engine import Database, DialectName, open_database
from chat_store.errors import InvalidFilterError
from chat_store.filters.matching import matches
from chat_store.filters.parsing import parse_filter
from chat_store.models import Channel
from chat_store.sql.filters import CHANNEL_BINDING, USER_BINDING, Binding, where
from tests.chat_store.finding import A_CHANNEL, Named, channels_found
from tests.chat_store.random_filters import (
    OF_CHANNELS,
    OF_USERS,
    OPERATORS,
    Fields,
    filter_of,
    parts_of,
)
from tests.chat_store.random_records import Population, channels_to_find, users_to_find

# of a population and as many filters each
EXAMPLES = 10 * settings().max_examples
FILTERS = 2
# of the filters of so many seeds: those that match some records, but not all
SEEDS = 500
LEAST_SHARE = 0.3


@dataclass(frozen=True)
class Found:
    """How a kind of record is made, filtered and looked up."""

    population: Callable[[Random], Population]
    fields: Fields
    binding: Binding


USERS = Found(users_to_find, OF_USERS, USER_BINDING)
CHANNELS = Found(channels_to_find, OF_CHANNELS, CHANNEL_BINDING)
KINDS = pytest.mark.parametrize("kind", [USERS, CHANNELS], ids=["users", "channels"])


@pytest.fixture
async def databases(sqlite_url: str, postgres_url: str) -> AsyncIterator[list[Database]]:
    both = [open_database(sqlite_url), open_database(postgres_url)]
    yield both
    for database in both:
        await database.close()


@KINDS
@pytest.mark.timeout(100 + EXAMPLES)
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**63))
async def test_a_filter_finds_the_same_in_both_databases_and_in_memory(
    databases: list[Database], kind: Found, seed: int
) -> None:
    """A seed, as Hypothesis would spend most examples on variations of one."""
    random = Random(seed)  # noqa: S311 - no secret
    population = kind.population(random)
    documents = _filters(random, kind, population)
    by_index = random.random() < 0.5
    for database in databases:
        async with database.transaction() as connection:
            for table, rows in population.rows.items():
                if rows:
                    await connection.execute(insert(table), rows)
            if by_index and database.dialect == "postgresql":
                await connection.execute(text("SET LOCAL enable_seqscan = off"))
            odd = await _disagreeing(connection, kind, population, documents)
            simplest = odd and await _simplest(connection, kind, population, odd[0])
            await connection.rollback()
        assert not odd, (database.dialect, simplest, population.records)


def _filters(random: Random, kind: Found, population: Population) -> list[dict[str, Any]]:
    records = list(population.records.values())
    return [filter_of(random, kind.fields, records) for _ in range(FILTERS)]


async def _simplest(
    connection: AsyncConnection, kind: Found, population: Population, document: dict[str, Any]
) -> dict[str, Any]:
    """A part of it that they disagree on, too."""
    parts = list(parts_of(document))
    odd = parts and await _disagreeing(connection, kind, population, parts)
    return await _simplest(connection, kind, population, odd[0]) if odd else document


async def _disagreeing(
    connection: AsyncConnection,
    kind: Found,
    population: Population,
    documents: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Those by which SQL, in one statement for them all, finds others than match in memory."""
    dialect: DialectName = "sqlite" if connection.dialect.name == "sqlite" else "postgresql"
    predicates = [parse_filter(document, kind.fields.catalogue) for document in documents]
    key = kind.binding.columns[kind.binding.key]
    rows = await connection.execute(
        union_all(
            *(
                select(literal_column(str(n)), key).where(where(predicate, kind.binding, dialect))
                for n, predicate in enumerate(predicates)
            )
        )
    )
    found: list[list[str]] = [[] for _ in documents]
    for n, id_ in rows:
        found[n].append(id_)
    return [
        document
        for document, predicate, ids in zip(documents, predicates, found, strict=True)
        if sorted(ids)
        != sorted(id_ for id_, record in population.records.items() if matches(predicate, record))
    ]


@KINDS
def test_those_filters_are_made_of_every_field_and_every_operator(kind: Found) -> None:
    fields = kind.fields
    built_in = fields.catalogue._fields
    assert built_in.keys() <= set(fields.names)
    for name in fields.names:
        with pytest.raises(InvalidFilterError) as refused:
            parse_filter({name: {"$nothing": 1}}, fields.catalogue)
        allowed = refused.value.problem.partition("allowed are ")[2].split(", ")
        assert set(allowed) == set(OPERATORS[fields.catalogue.find(name).kind])


@KINDS
def test_many_of_those_filters_tell_records_apart(kind: Found) -> None:
    apart = []
    for seed in range(SEEDS):
        random = Random(seed)  # noqa: S311 - no secret
        population = kind.population(random)
        for document in _filters(random, kind, population):
            predicate = parse_filter(document, kind.fields.catalogue)
            answers = {matches(predicate, record) for record in population.records.values()}
            apart.append(len(answers) > 1)

    assert sum(apart) / len(apart) > LEAST_SHARE


async def test_no_names_of_members_are_what_nameless_members_have(database: Database) -> None:
    channels: dict[str, tuple[Channel, Named]] = {
        "empty": (A_CHANNEL, {}),
        "nameless": (A_CHANNEL, {"ann": None}),
        "named": (A_CHANNEL, {"ann": None, "bo": "Bo"}),
    }

    found = await channels_found(database, channels, {"member.user.name": []})

    assert found == {"empty", "nameless"}
