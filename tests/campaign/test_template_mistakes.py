"""What is wrong with a template is told when it is written."""

import pytest

from campaign_service.campaigns.errors import InvalidTemplateError
from tests.campaign.rendering import compile_json, compile_text

RARE_SPACES = "\x1f\x1e\x1d\x1c\u205f\u2008\u2006\u2005\u2004"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("Hi {{ receiver.name", "unexpected end of template"),
        ("{{ receiver.name }", "unexpected '}'"),
        ("{% if receiver.vip %}", "Unexpected end of template"),
        ("{% endfor %}", "unknown tag 'endfor'"),
        ("line\n{{ }}", "line 2: Expected an expression"),
        ("{{ reciever.name }}", "unknown name 'reciever'"),
        ("{{ receiver.name|shout }}", "No filter named 'shout'"),
        ("{% if receiver is lucky %}{% endif %}", "No test named 'lucky'"),
        ("{% if receiver.name|shout %}{% endif %}", "No filter named 'shout'"),
        ("{# open", "Missing end of comment tag"),
        (f"\r{{{{ receiver.name }}}}{RARE_SPACES}", "too many kinds of spaces"),
    ],
)
def test_a_mistake_is_refused_with_its_place_and_kind(source: str, problem: str) -> None:
    with pytest.raises(InvalidTemplateError) as refused:
        compile_text(source)

    assert refused.value.field == "text"
    assert problem in refused.value.problem


def test_a_mistake_inside_a_json_value_is_refused_at_its_path() -> None:
    with pytest.raises(InvalidTemplateError) as refused:
        compile_json({"a": [1, {"b": "{{ nobody }}"}]})

    assert refused.value.field == "custom.a[1].b"
