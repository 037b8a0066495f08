"""Case and words are the same for PostgreSQL as for Python, character by character."""

import unicodedata
from collections.abc import Iterable

import pytest
from sqlalchemy import text

from chat_store import words
from chat_store.database import Database

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
EVERY_CHARACTER = [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF]


async def _found(database: Database, condition: str, pattern: str, below: int) -> set[str]:
    statement = text(
        "SELECT chr(code) FROM generate_series(1, :below - 1) AS code "
        f"WHERE code NOT BETWEEN 55296 AND 57343 AND {condition}"
    )
    async with database.read() as connection:
        return set(await connection.scalars(statement, {"pattern": pattern, "below": below}))


@ON_POSTGRESQL
async def test_postgresql_sees_a_word_begin_after_the_same_characters(database: Database) -> None:
    expected = {c for c in EVERY_CHARACTER if not words.starts_word(f"{c}b", "b")}

    condition = "(chr(code) || 'b') COLLATE \"C\" !~ :pattern"
    found = await _found(database, condition, words.starts_word_pattern("b"), 0x110000)

    assert found == expected


@ON_POSTGRESQL
async def test_postgresql_finds_the_same_forms_of_a_letter(database: Database) -> None:
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
        folded = words.fold(letter)
        expected = {c for c in EVERY_CHARACTER[:0x20000] if words.includes(c, folded)}

        condition = 'chr(code) COLLATE "C" ~ :pattern'
        found = await _found(database, condition, words.includes_pattern(folded), 0x20000)

        assert found == expected


def test_folding_keeps_the_length_and_is_done_once() -> None:
    for character in _sampled(EVERY_CHARACTER):
        folded = words.fold(character)

        assert len(folded) == 1
        assert words.fold(folded) == folded


def _sampled(characters: Iterable[str]) -> Iterable[str]:
    return (c for c in characters if c.lower() != c or c.casefold() != c or c.upper() != c)


def test_no_letter_is_outside_of_the_planes_that_the_patterns_know() -> None:
    known = set().union(*words._WRITTEN)

    assert all(ord(c) in known for c in EVERY_CHARACTER if unicodedata.category(c)[0] in "LMN")
    assert all(ord(c) in words._CASED for c in EVERY_CHARACTER if words.fold(c) != c)
