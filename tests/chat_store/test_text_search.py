"""Case and words are the same for PostgreSQL as for Python, character by character."""

import unicodedata
from collections import defaultdict
from collections.abc import Collection
from functools import cache

import pytest
from sqlalchemy import text

from chat_store.database.engine import Database
from chat_store.filters import text_search

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@cache
def every_character() -> list[str]:
    return [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF]


@cache
def with_case() -> list[str]:
    return [c for c in every_character() if not c == c.lower() == c.casefold() == c.upper()]


@cache
def written() -> set[int]:
    return set().union(*text_search._WRITTEN)


@cache
def telling() -> list[str]:
    """Where no character has a category of its own, one in a few hundred stands for the others."""
    return [c for c in every_character() if ord(c) in written() or ord(c) % 0x101 == 0]


async def _found(
    database: Database, condition: str, pattern: str, characters: Collection[str]
) -> set[str]:
    statement = text(
        "SELECT one FROM unnest(string_to_array(CAST(:characters AS text), NULL)) AS one "
        f"WHERE {condition}"
    )
    given = {"characters": "".join(characters), "pattern": pattern}
    async with database.snapshot() as connection:
        return set(await connection.scalars(statement, given))


@pytest.mark.nightly
@ON_POSTGRESQL
async def test_postgresql_sees_a_word_begin_after_the_same_characters(database: Database) -> None:
    expected = {c for c in telling() if not text_search.starts_word(f"{c}b", "b")}

    condition = "(one || 'b') COLLATE \"C\" !~ :pattern"
    found = await _found(database, condition, text_search.starts_word_pattern("b"), telling())

    assert found == expected


@pytest.mark.nightly
@ON_POSTGRESQL
async def test_postgresql_finds_the_same_forms_of_a_letter(database: Database) -> None:
    characters = every_character()[:0x20000]
    forms = defaultdict(set)
    for character in characters:
        forms[text_search.fold(character)].add(character)
    for letter in (
        "k",
        "s",
        "å",
        "ß",
        "\u03c3",
        "µ",
        "\u03b9",
        "ǆ",
        "i",
        "ⓐ",
        "\U00010428",
        "7",
        "-",
    ):
        folded = text_search.fold(letter)

        condition = 'one COLLATE "C" ~ :pattern'
        found = await _found(database, condition, text_search.includes_pattern(folded), characters)

        assert found == forms[folded]
        assert all(text_search.includes(character, folded) for character in found)


def test_folding_keeps_the_length_and_is_done_once() -> None:
    for character in with_case():
        folded = text_search.fold(character)

        assert len(folded) == 1
        assert text_search.fold(folded) == folded


def test_no_letter_is_outside_of_the_planes_that_the_patterns_know() -> None:
    assert all(
        ord(c) in written() for c in every_character() if unicodedata.category(c)[0] in "LMN"
    )
    assert all(ord(c) in text_search._CASED for c in with_case() if text_search.fold(c) != c)
