"""Templates in the strings of attachments and custom objects."""

import json
from typing import Any

import orjson
import pytest

from campaign_service.campaigns.limits import MAX_ATTACHMENTS_BYTES
from campaign_service.templates.text_templates import RenderError
from tests.campaign.rendering import CUSTOM, VARIABLES, compile_json


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{{ receiver.age }}", 41),
        ("{{ receiver.score }}", 0.5),
        ("{{receiver.vip}}", True),
        ("{{ receiver.nothing }}", None),
        ("{{ receiver.nickname }}", None),
        ("{{ receiver.name }}", "Ann"),
        ("{{ receiver.tags }}", ["b", "a", "b"]),
        ("{{ receiver.address }}", {"city": "Paris", "zip": "75001"}),
        ("{{ receiver.orders|map(attribute='id') }}", [1, 2]),
        ("{{ receiver.age + 1 }}", 42),
        ("{{ receiver.vip and receiver.age }}", 41),
        ("{{ receiver.orders if receiver.vip }}", CUSTOM["orders"]),
        ("{# a comment #}{{ receiver.age }}", 41),
        (" {{ receiver.age }}", " 41"),
        ("{{ receiver.age }}{{ receiver.age }}", "4141"),
        ("{{ receiver.age }} years", "41 years"),
        ("{% if receiver.vip %}{{ receiver.age }}{% endif %}", "41"),
        ("no template", "no template"),
        ("{{ '41' }}", "41"),
    ],
)
def test_only_a_string_of_exactly_one_expression_keeps_its_json_type(
    source: str, value: Any
) -> None:
    rendered = compile_json({"key": source}).render(VARIABLES)

    assert rendered == {"key": value}
    assert type(rendered["key"]) is type(value)


def test_every_string_inside_a_json_value_is_a_template_and_no_key_is() -> None:
    given = {
        "{{ receiver.name }}": 1,
        "list": ["{{ receiver.name }}", {"deep": ["{{ receiver.age }}", None, 2.5, True]}],
    }

    assert compile_json(given).render(VARIABLES) == {
        "{{ receiver.name }}": 1,
        "list": ["Ann", {"deep": [41, None, 2.5, True]}],
    }


def test_a_json_value_without_templates_is_constant_and_itself() -> None:
    given = {"a": ["{Hello}", 1, None]}
    compiled = compile_json(given)

    assert compiled.constant
    assert compiled.render({}) is given


def test_whatever_is_rendered_can_be_stored_as_json() -> None:
    value = compile_json(
        ["{{ receiver }}", "{{ 2 ** 53 - 1 }}", "{{ receiver.orders|map('items') }}"]
    )

    json.dumps(value.render(VARIABLES), allow_nan=False)


def test_attachments_have_at_most_64_kb_as_rendered() -> None:
    compiled = compile_json([{"a": "{{ receiver.text }}"}])
    at_most = MAX_ATTACHMENTS_BYTES - len('[{"a":""}]')

    assert compiled.render({"receiver": {"text": "x" * at_most}})
    with pytest.raises(RenderError):
        compiled.render({"receiver": {"text": "x" * (at_most + 1)}})


def test_a_rendered_value_nests_no_deeper_than_20() -> None:
    """In the place where it is put: a message that nests deeper could be written but not read."""
    compiled = compile_json([{"a": "{{ receiver.value }}"}])

    assert compiled.render({"receiver": {"value": orjson.loads("[" * 18 + "]" * 18)}})
    with pytest.raises(RenderError):
        compiled.render({"receiver": {"value": orjson.loads("[" * 19 + "]" * 19)}})
