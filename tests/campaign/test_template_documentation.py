"""Every row of the templates' table of filters is what it says."""

import json
import re
from pathlib import Path

import pytest

from campaign_service.templates.grammar import FILTERS, TESTS
from campaign_service.templates.text_templates import compile_text

DOCUMENT = (Path(__file__).parents[2] / "protos/TEMPLATES.md").read_text()
ROW = re.compile(r"^\| `(\w+).*? \| `([{].+?)` \| `(.*)` \|$", re.MULTILINE)
ROWS = [(name, source.replace("\\|", "|"), text) for name, source, text in ROW.findall(DOCUMENT)]
VALUES = json.loads(DOCUMENT.partition("```json")[2].partition("```")[0])


@pytest.mark.parametrize(("name", "source", "text"), ROWS)
def test_an_example_of_the_documentation_renders_as_it_says(
    name: str, source: str, text: str
) -> None:
    compiled = compile_text(source, "text", frozenset(VALUES))

    assert name in source
    assert compiled.render(VALUES) == text


def test_the_documentation_has_every_filter_and_test_once() -> None:
    assert [name for name, _, _ in ROWS] == sorted(FILTERS)
    assert set(re.findall(r"[\w!=<>]+", DOCUMENT.rpartition("The tests are ")[2])) >= TESTS
