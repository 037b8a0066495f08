"""Nobody's data keeps a message from going out: whatever is missing or of another type is empty."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from campaign_service.templates.grammar import FILTERS, TESTS
from tests.campaign.rendering import compile_json, compile_text

VALUES: dict[str, Any] = {
    "null": None,
    "number": 5,
    "fraction": 19.5,
    "negative": -3,
    "zero": 0,
    "boolean": True,
    "empty": "",
    "text": "some text",
    "digits": "12",
    "time": "2026-03-01T12:00:00Z",
    "list": [1, None, "a", True, {"a": 1}, [2]],
    "nothing": [],
    "object": {"a": 1, "b": None, "c": [1, "x"]},
    "bare": {},
    "pairs": [[1, 2], [3]],
}
NAMES = ["missing", *VALUES]
RECEIVER = {"receiver": VALUES, "custom": VALUES}
ARGUMENTS = {
    "map": [
        "attribute='a'",
        "attribute='a', default='x'",
        "'upper'",
        "'round', 1",
        "'default', 'x'",
    ],
    "replace": ["receiver.argument, 'x'", "'x', receiver.argument", "'e', 'x', 1"],
    "select": ["", "'gt', 3", "'in', receiver.argument"],
    "reject": ["", "'even'", "'divisibleby', receiver.argument"],
    "selectattr": ["'a'", "'a', 'eq', receiver.argument", "receiver.argument"],
    "rejectattr": ["'a'", "'a', 'lt', receiver.argument"],
    "date": ["", "'%d %B'", "receiver.argument", "'%H', receiver.argument"],
    "dictsort": ["", "true", "by=receiver.argument", "by='value'"],
    "format": ["receiver.argument", "1, receiver.argument"],
    "truncate": ["", "5", "receiver.argument", "5, false, receiver.argument"],
    "round": ["", "1", "receiver.argument", "0, 'ceil'", "method=receiver.argument"],
    "int": ["", "receiver.argument", "0, receiver.argument"],
    "sort": ["", "attribute='a'", "attribute=receiver.argument", "true"],
    "trim": ["", "receiver.argument"],
    "split": ["", "','", "receiver.argument"],
    "join": ["", "', '", "receiver.argument", "attribute='a'", "attribute=receiver.argument"],
    "sum": ["", "attribute='a'", "receiver.argument", "start=receiver.argument"],
    "max": ["", "attribute='a'", "attribute=receiver.argument"],
    "min": ["", "attribute='a'", "true"],
    "unique": ["", "attribute='a'", "attribute=receiver.argument"],
    "default": ["", "'x'", "receiver.argument", "receiver.argument, true"],
    "float": ["", "receiver.argument"],
}
OF_TWO = {"divisibleby", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le", "lessthan", "lt"} | {
    "ne", "==", "!=", "<", "<=", ">", ">=",
}  # fmt: skip
OPERATORS = [*"+ - * / // % ** ~ == != < <= > >= in and or".split(), "not in"]
STATEMENTS = [
    "{% for x in receiver.value %}{{ x }}{{ loop.index }}{% else %}none{% endfor %}",
    "{% for a, b in receiver.value %}{{ a }}{{ b.c.d }}{% endfor %}",
    "{% for x in receiver.value if x > 1 %}{{ x }}{% endfor %}",
    "{% set a, b = receiver.value %}{{ a }}{{ b }}",
    "{% if receiver.value %}x{% endif %}",
    "{{ -receiver.value }}{{ +receiver.value }}{{ not receiver.value }}",
    "{{ receiver.value[0] }}{{ receiver.value['a'].b }}{{ receiver.value[1:] }}",
    "{{ receiver[receiver.value] }}{{ receiver.list[receiver.value] }}",
    "{{ receiver.text[receiver.value:] }}{{ receiver.list[:receiver.value] }}",
    "{{ '%.2f' % receiver.value }}{{ '%s and %05d'|format(receiver.value, receiver.value) }}",
    "{{ 'Points: ' + receiver.value + '!' }}{{ 1 < receiver.value <= 7 }}",
]


def of_filters() -> list[str]:
    given = [
        (name, arguments) for name in sorted(FILTERS) for arguments in ARGUMENTS.get(name, [""])
    ]
    return [f"receiver.value|{name}({arguments})" for name, arguments in given]


def of_tests() -> list[str]:
    words = sorted(name for name in TESTS if name.isalpha())
    return [
        f"receiver.value is {name}" + (" receiver.argument" if name in OF_TWO else "")
        for name in words
        # Jinja reads a word after `in` as a part of it
        if name != "in"
    ]


def of_operators() -> list[str]:
    return [f"receiver.value {sign} receiver.argument" for sign in OPERATORS]


@pytest.mark.parametrize("expression", [*of_filters(), *of_tests(), *of_operators()])
def test_an_expression_fails_for_no_value_and_no_argument(expression: str) -> None:
    source = "{{ " + expression + " }}"
    as_text, as_json = compile_text(source), compile_json([source])
    for receiver in receivers():
        as_text.render(receiver)
        as_json.render(receiver)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_fails_for_no_value(statement: str) -> None:
    compiled = compile_text(statement)
    for receiver in receivers():
        compiled.render(receiver)


def receivers() -> Iterator[dict[str, Any]]:
    """One for each pair of values; a value may be missing."""
    for value, argument in product(NAMES, NAMES):
        given = {"value": VALUES.get(value), "argument": VALUES.get(argument)}
        names = {"value": value, "argument": argument}
        yield {"receiver": {**VALUES, **{k: v for k, v in given.items() if names[k] != "missing"}}}


ABSENT = ["missing", "null"]
NO_NUMBERS = [*ABSENT, "boolean", "text", "digits", "list", "object", "bare", "empty"]
NO_LISTS = [*ABSENT, "number", "fraction", "boolean", "zero"]


@pytest.mark.parametrize(
    ("source", "names", "text"),
    [
        ("Hi{{% if receiver.{} > 100 %}} VIP{{% endif %}}!", NO_NUMBERS, "Hi!"),
        ("Hi{{% if receiver.{} <= 100 %}} VIP{{% endif %}}!", NO_NUMBERS, "Hi!"),
        ("Hi{{% if 1 < receiver.{} < 100 %}} VIP{{% endif %}}!", NO_NUMBERS, "Hi!"),
        ("{{% if receiver.{} < 'a' %}}x{{% endif %}}", ["missing", "null", "number", "list"], ""),
        ("{{{{ receiver.{} + 1 }}}}{{{{ receiver.{} * 2 }}}}", ["missing", "null", "list", "bare"], ""),
        ("{{{{ receiver.{}|round(2) }}}}{{{{ receiver.{}|abs }}}}", NO_NUMBERS, ""),
        ("{{{{ '%.2f' % receiver.{} }}}}", NO_NUMBERS, ""),
        ("{{{{ receiver.{}|int(7) }}}}", [*ABSENT, "text", "list", "object"], "7"),
        ("[{{% for x in receiver.{} %}}x{{% endfor %}}]", NO_LISTS, "[]"),
        ("[{{{{ receiver.{}|join(', ') }}}}]", NO_LISTS, "[]"),
        ("{{{{ receiver.{}|length }}}}", NO_LISTS, "0"),
        ("[{{{{ receiver.{}|first }}}}{{{{ receiver.{}|last }}}}]", NO_LISTS, "[]"),
        ("{{{{ 'a' in receiver.{} }}}} {{{{ 'a' not in receiver.{} }}}}", NO_LISTS, "False True"),
        ("{{{{ receiver.{} in receiver.list }}}}", [*ABSENT, "text", "object"], "False"),
        ("{{{{ receiver.{}|default('friend') }}}}", ABSENT, "friend"),
        ("{{{{ receiver.{}|d('friend') }}}}", ABSENT, "friend"),
        ("{{{{ receiver.{} is none }}}} {{{{ receiver.{} is defined }}}}", ABSENT, "True False"),
        ("{{{{ receiver.{} == none }}}} {{{{ receiver.{} != 5 }}}}", ABSENT, "True True"),
        ("{{{{ receiver.{} == receiver.missing }}}}", ABSENT, "True"),
        ("{{{{ receiver.{}|date('%d')|default('soon') }}}}", [*NO_NUMBERS, "number"], "soon"),
        ("{{{{ 'Hi ' + receiver.{} + '!' }}}}", ABSENT, "Hi !"),
        ("{{{{ receiver.text + receiver.{} }}}}", ABSENT, "some text"),
        ("{{{{ receiver.number / receiver.{} }}}}", ["zero", "missing", "text"], ""),
        ("{{{{ receiver.fraction|round(receiver.{}) }}}}", ["missing", "null", "text"], "20.0"),
        ("{{{{ receiver.pairs|map(attribute='a')|join }}}}", [""], ""),
    ],
)  # fmt: skip
def test_what_is_missing_or_of_another_type_does_not_match_and_holds_nothing(
    source: str, names: list[str], text: str
) -> None:
    for name in names:
        rendered = compile_text(source.format(name, name)).render(RECEIVER)

        assert (name, rendered) == (name, text)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ receiver.list|sort }}", '[1,true,"a",{"a":1},[2],null]'),
        ("{{ receiver.list|max|tojson }} {{ receiver.list|min }}", '{"a":1} 1'),
        ("{{ receiver.list|sum }}", "1"),
        ("{{ receiver.list|unique|list|length }} {{ receiver.pairs|unique|length }}", "6 2"),
        ("{{ receiver.pairs|map('last')|last }}", "3"),
        ("{% for a, b in receiver.pairs %}{{ a }}-{{ b }} {% endfor %}", "1-2 3- "),
        ("{{ 'Points: ' + receiver.number }}{{ receiver.text|upper + receiver.number }}", "Points: 5SOME TEXT5"),
        ("{{ receiver.fraction|round(0, 'floor')|int }} {{ 19.01|round(0, 'ceil') }}", "19 20.0"),
        ("{{ '%.2f' % receiver.fraction }} {{ '%08.3f|%-6d|%+d|%5s|%.2s|%%'|format(1.5, 2, 3, 'x', 'abc') }}",
         "19.50 0001.500|2     |+3|    x|ab|%"),
        ("{{ '%,.2f'|format(-1234567.891) }} {{ '%d'|format(19.9) }}", "-1,234,567.89 19"),
        ("{{ receiver.time|date('%d.%m.%Y') }} {{ '2026-12-31'|date('%A %-d %b %y %j') }}", "01.03.2026 Thursday 31 Dec 26 365"),
        ("{{ '2026-12-31'|date('%d', 'Pacific/Kiritimati') }}{{ '2026-12-31'|date('%d', 'Pacific/Niue') }}", "3131"),
        ("{{ '2026-07-01T23:30:00+02:00'|date('%H:%M %Z %z', 'America/New_York') }}", "17:30 EDT -0400"),
        ("{{ '2026-07-01T00:05:00'|date('%I:%M %p %-I') }}", "12:05 AM 12"),
        ("{{ '9999-12-31T23:59:00Z'|date('%d', 'Asia/Tokyo')|default('never') }}", "never"),
        ("{{ 'A very long line'|truncate(11) }}|{{ 'A very long line'|truncate(11, true, '…') }}", "A very...|A very lon…"),
        ("{{ 'short'|truncate(5) }} {{ 'a b c'|split|length }} {{ 'a,,b'|split(',') }}", 'short 3 ["a","","b"]'),
    ],
)  # fmt: skip
def test_values_of_several_types_have_an_order_a_sum_and_a_form(source: str, text: str) -> None:
    assert compile_text(source).render(RECEIVER) == text


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\n\r\r\n"])
def test_line_ends_stay_as_they_are(end: str) -> None:
    source = f"Hi{end}{{%{end}if receiver.number{end}%}}{{{{ 'a{end}b' }}}}{end}{{% endif %}}{end}"

    assert compile_text(source).render(RECEIVER) == f"Hi{end}a{end}b{end}{end}"
    assert compile_json([source]).render(RECEIVER) == [f"Hi{end}a{end}b{end}{end}"]
    assert compile_text(f"{{% raw %}}{end}{{% endraw %}}\x1f{end}").render({}) == f"{end}\x1f{end}"
