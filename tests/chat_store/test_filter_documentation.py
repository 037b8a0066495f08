"""Every row of the filters' table of operators is what it says, on both databases."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat_store.database.engine import Database
from chat_store.filters.parsing import OPERATORS
from tests.chat_store.finding import A_USER, users_found

DOCUMENT = (Path(__file__).parents[2] / "protos/FILTERS.md").read_text()
ROWS = re.findall(r"^\| `(\$\w+)` \| .* \| `({.+})` \| `(.*)` \|$", DOCUMENT, flags=re.MULTILINE)
PEOPLE: list[dict[str, Any]] = json.loads(DOCUMENT.partition("```json")[2].partition("```")[0])


@pytest.mark.parametrize(("operator", "document", "found"), ROWS)
async def test_an_example_of_the_documentation_finds_whom_it_says(
    database: Database, operator: str, document: str, found: str
) -> None:
    people = [
        replace(A_USER, **{**person, "teams": tuple(person.get("teams", ()))}) for person in PEOPLE
    ]

    assert f'"{operator}"' in document
    assert await users_found(database, people, json.loads(document)) == set(found.split())


def test_the_documentation_has_every_operator_once() -> None:
    assert sorted(operator for operator, _, _ in ROWS) == sorted(OPERATORS)
