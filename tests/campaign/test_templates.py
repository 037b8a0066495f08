"""What templates can do, and what nobody can do with them."""

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from campaign_service.errors import InvalidTemplateError
from campaign_service.templates import CompiledJson, CompiledText, RenderError
from campaign_service.templates import compile_json as compile_json_at
from campaign_service.templates import compile_text as compile_text_at

NAMES = frozenset({"sender", "receiver", "channel", "custom"})
CUSTOM = {
    "country": "France",
    "age": 41,
    "score": 0.5,
    "vip": True,
    "nothing": None,
    "tags": ["b", "a", "b"],
    "address": {"city": "Paris", "zip": "75001"},
    "orders": [{"id": 1, "total": 20}, {"id": 2, "total": 5}],
    "nullary": "",
}
VARIABLES = {
    "sender": {"id": "acme", "name": "Acme"},
    "receiver": {"id": "ann", "name": "Ann", "teams": ["red"], **CUSTOM, "custom": CUSTOM},
    "channel": {"id": "c1", "member_count": 2},
    "custom": CUSTOM,
}


def compile_text(source: str) -> CompiledText:
    return compile_text_at(source, "text", NAMES)


def compile_json(value: Any) -> CompiledJson:
    return compile_json_at(value, "custom", NAMES)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Hi {{ receiver.name }} I'm {{ sender.name }}!", "Hi Ann I'm Acme!"),
        ("{{receiver.country}} {{ receiver.custom.country }} {{ custom.country }}", "France " * 3),
        ("{{ receiver['country'] }}", "France"),
        ("{{ receiver.address.city }}", "Paris"),
        ("{{ receiver.tags[0] }}{{ receiver.tags[-1] }}{{ receiver.tags[0:2] }}", 'bb["b","a"]'),
        ("{{ channel.id }} of {{ channel.member_count }}", "c1 of 2"),
        ("{Hello} {name} {{ '{' }} }} %} {", "{Hello} {name} { }} %} {"),
        ("Hello, you", "Hello, you"),
        ("", ""),
        ("line\n", "line\n"),
        ("{{ sender.id }}\n\n", "acme\n\n"),
        ("a{# nobody sees this #}b", "ab"),
        ("{% raw %}{{ receiver.name }}{% endraw %}", "{{ receiver.name }}"),
        ("{{ 'é🎉' }}\u2028", "é🎉\u2028"),
        ("<b>{{ '<&>' }}</b>", "<b><&></b>"),
    ],
)
def test_a_text_is_rendered_for_its_receiver(source: str, text: str) -> None:
    assert compile_text(source).render(VARIABLES).strip(" ") == text.strip(" ")


@pytest.mark.parametrize(
    "source",
    [
        "{{ receiver.nickname }}",
        "{{ receiver.nickname.first.letter }}",
        "{{ receiver['nickname'] }}",
        "{{ receiver.name.first }}",
        "{{ receiver.tags[99] }}",
        "{{ receiver.tags.x }}",
        "{{ receiver.age.x.y }}",
        "{{ receiver.nothing }}",
        "{{ receiver.nothing.x }}",
        "{{ custom[receiver.nickname] }}",
        "{% for tag in receiver.nicknames %}x{% endfor %}",
        "{% if receiver.nickname %}x{% endif %}",
    ],
)
def test_what_is_missing_renders_empty(source: str) -> None:
    assert compile_text(f"[{source}]").render(VARIABLES) == "[]"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ receiver.nickname|default('friend') }}", "friend"),
        ("{{ receiver.name|default('friend') }}", "Ann"),
        ("{{ receiver.nullary|default('friend', true) }}", "friend"),
        ("{{ receiver.name|upper }} {{ receiver.name|lower }}", "ANN ann"),
        ("{{ 'the end'|title }} {{ 'the end'|capitalize }}", "The End The end"),
        ("{{ '  x '|trim }}", "x"),
        ("{{ receiver.tags|join(', ') }}", "b, a, b"),
        ("{{ receiver.orders|join('+', attribute='total') }}", "20+5"),
        ("{{ receiver.tags|length }} {{ receiver.tags|count }}", "3 3"),
        ("{{ receiver.tags|sort }} {{ receiver.tags|unique|list }}", '["a","b","b"] ["b","a"]'),
        ("{{ receiver.tags|first }}{{ receiver.tags|last }}", "bb"),
        ("{{ receiver.tags|map('upper')|join }}", "BAB"),
        ("{{ receiver.tags|map('upper') }}", '["B","A","B"]'),
        ("{{ receiver.orders|map(attribute='total')|sum }}", "25"),
        ("{{ receiver.orders|selectattr('total', 'gt', 9)|map(attribute='id')|list }}", "[1]"),
        ("{{ receiver.orders|sum(attribute='total') }}", "25"),
        ("{{ receiver.name|replace('n', 'N') }}", "ANN"),
        ("{{ 3.14159|round(2) }} {{ 2.5|round }} {{ 1234|round(-2) }}", "3.14 2.0 1200"),
        ("{{ '12'|int + 1 }} {{ 'x'|int(7) }} {{ '1.5'|float }}", "13 7 1.5"),
        ("{{ -3|abs }} {{ [1, 5, 2]|max }} {{ [4, 2]|min }}", "3 5 2"),
        ("{{ receiver.address|tojson }}", '{"city":"Paris","zip":"75001"}'),
        ("{{ receiver.nickname|tojson }} {{ receiver.vip|tojson }}", "null true"),
        ("{{ receiver.address|dictsort }}", '[["city","Paris"],["zip","75001"]]'),
        ("{{ 'a b&c'|urlencode }}", "a%20b%26c"),
        ("{{ 'three little words'|wordcount }}", "3"),
        ("{{ 5|string ~ '%' }}", "5%"),
        ("{{ receiver.tags|reverse|list }}", '["b","a","b"]'),
    ],
)
def test_the_usual_filters_work(source: str, text: str) -> None:
    assert compile_text(source).render(VARIABLES) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% if receiver.vip %}VIP{% else %}you{% endif %}", "VIP"),
        ("{% if receiver.age < 18 %}a{% elif receiver.age < 65 %}b{% else %}c{% endif %}", "b"),
        ("{{ 'old' if receiver.age > 40 else 'young' }}", "old"),
        ("{{ 'x' if receiver.nickname }}", ""),
        ("{% if 'red' in receiver.teams and not receiver.banned %}in{% endif %}", "in"),
        ("{% if receiver.nickname is defined %}a{% else %}b{% endif %}", "b"),
        ("{% if receiver.age is odd and receiver.tags is sequence %}odd{% endif %}", "odd"),
        ("{% for tag in receiver.tags %}{{ loop.index }}{{ tag }}{% endfor %}", "1b2a3b"),
        ("{% for tag in receiver.tags %}{{ tag }}{{ ',' if not loop.last }}{% endfor %}", "b,a,b"),
        ("{% for tag in receiver.tags if tag != 'a' %}{{ tag }}{% endfor %}", "bb"),
        ("{% for tag in [] %}x{% else %}none{% endfor %}", "none"),
        ("{% for k, v in receiver.address|items %}{{ k }}={{ v }} {% endfor %}", "city=Paris zip=75001 "),
        ("{% for o in receiver.orders %}{% for k in o %}{{ k }}{% endfor %}{% endfor %}", "idtotalidtotal"),
        ("{% set greeting = 'Hi ' ~ receiver.name %}{{ greeting }}!", "Hi Ann!"),
        ("{% set a, b = receiver.tags[:2] %}{{ b }}{{ a }}", "ab"),
        ("{{ receiver.age + 1 }} {{ receiver.age * 2 }} {{ 7 // 2 }} {{ 7 % 2 }} {{ 2 ** 8 }}", "42 82 3 1 256"),
        ("{{ 'a' + 'b' }} {{ '-' * 3 }} {{ 1 == 1.0 }}", "ab --- True"),
    ],
)  # fmt: skip
def test_conditions_loops_and_sums_work(source: str, text: str) -> None:
    assert compile_text(source).render(VARIABLES) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ receiver.nothing }}", ""),
        ("{{ receiver.tags }}", '["b","a","b"]'),
        ("{{ receiver.address }}", '{"city":"Paris","zip":"75001"}'),
        ("{{ receiver.orders[0] }}", '{"id":1,"total":20}'),
        ("{{ receiver.age }} {{ receiver.score }} {{ receiver.vip }}", "41 0.5 True"),
        ("{{ 'tags: ' ~ receiver.tags ~ receiver.nothing }}", 'tags: ["b","a","b"]'),
    ],
)
def test_values_read_in_a_text_as_json_and_null_as_nothing(source: str, text: str) -> None:
    assert compile_text(source).render(VARIABLES) == text


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


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ("{{ receiver.name }} {{ receiver['age'] }}", {"name", "age"}),
        ("{{ receiver.address.city }}", {"address"}),
        ("{% for tag in receiver.tags %}{{ tag.x }}{% endfor %}", {"tags"}),
        ("{{ sender.name }}", set()),
        ("{{ receiver }}", None),
        ("{{ receiver[sender.name] }}", None),
        ("{% for key in receiver %}{{ receiver[key] }}{% endfor %}", None),
        ("{% set r = receiver %}{{ r.name }}", None),
        ("{{ receiver.name }}{{ receiver|tojson }}", None),
    ],
)
def test_a_template_tells_which_fields_it_reads(source: str, fields: set[str] | None) -> None:
    """None means that it may read any."""
    assert compile_text(source).reads.fields_of("receiver") == fields


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


STATEMENTS = [
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% extends 'x' %}",
    "{% block x %}{% endblock %}",
    "{% macro m() %}{% endmacro %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% call receiver.x() %}{% endcall %}",
    "{% filter upper %}x{% endfilter %}",
    "{% set x %}block{% endset %}",
    "{% with x = 1 %}{{ x }}{% endwith %}",
    "{% autoescape true %}{% endautoescape %}",
    "{% do receiver.x %}",
    "{% debug %}",
    "{% set receiver.x = 1 %}",
    "{% for x in receiver.orders recursive %}{{ loop(x) }}{% endfor %}",
]
NAMES_OUTSIDE = [
    "{{ range(10**9) }}",
    "{{ lipsum(n=10**6) }}",
    "{{ cycler }}",
    "{{ namespace }}",
    "{{ self }}",
    "{{ self.__init__ }}",
    "{{ config }}",
    "{{ request }}",
    "{{ loop }}",
    "{{ varargs }}",
    "{{ caller }}",
    "{{ True.__class__ }}{{ __import__ }}",
]
CALLS = [
    "{{ receiver.name.upper() }}",
    "{{ receiver.tags.append(1) }}",
    "{{ receiver.get('name') }}",
    "{{ ''.join(receiver.tags) }}",
    "{{ '{0.__class__}'.format(receiver) }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ receiver.__init__.__globals__['os'].popen('id').read() }}",
    "{% for x in receiver.tags %}{{ loop.cycle('a') }}{% endfor %}",
]
FILTERS_OUTSIDE = [
    "{{ receiver|attr('__class__') }}",
    "{{ 'x'|center(10**9) }}",
    "{{ 'x'|indent(10**9) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ 'x'|wordwrap(1) }}",
    "{{ receiver.tags|batch(10**9, 'x')|list }}",
    "{{ receiver.tags|slice(10**9)|list }}",
    "{{ receiver.tags|groupby('x') }}",
    "{{ receiver|xmlattr }}",
    "{{ receiver|pprint }}",
    "{{ 'x'|safe }}",
    "{{ receiver.tags|random }}",
]
REPEATERS = [
    "{{ ('x' * 5000)|map(attribute='y', default=receiver)|join }}",
    "{{ ('x' * 5000)|map('default', receiver)|list }}",
    "{{ ('x' * 9)|map('metered loop', -100000000)|map('list')|list }}{{ 'y' * 10**8 }}",
    "{{ ('x' * 9)|map('map', 'metered loop', -100000000)|list }}",
    "{{ ['x', 'y']|map('concatenation')|list }}",
    # the same few lists, compared in a way that doubles with each level
    "{% set a = [1] %}{% set b = [1] %}" + "{% set a = 'xyz'|map(attribute='q', default=a)|list %}"
    "{% set b = 'xyz'|map(attribute='q', default=b)|list %}" * 40 + "{{ a == b }}",
    "{{ [receiver, receiver, receiver] }}",
    "{{ {'a': receiver, 'b': receiver} }}",
    "{{ [receiver.name|upper] }}",
]
TOO_MUCH_TO_COMPILE = [
    "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "{{ " + "[" * 5_000 + "]" * 5_000 + " }}",
    "{{ " + "-" * 10_000 + "1 }}",
    "{{ " + "not " * 4_000 + "1 }}",
    "{{ " + "+".join(["receiver.age"] * 1_000) + " }}",
    "{{ " + "~".join(["receiver.age"] * 1_000) + " }}",
    "{{ " + " if 1 else ".join(["1"] * 1_500) + " }}",
    "{{ receiver" + ".a" * 5_000 + " }}",
    "{{ receiver" + "|upper" * 2_000 + " }}",
    "{{ receiver.name }}" * 1_000,
    "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "{% for x in receiver.tags %}" * 400 + "{% endfor %}" * 400,
    "{{ " + "{" * 3_000,
    "{% raw %}" * 2_000,
    "{{ '" + "x" * 20_000 + "' }}",
    "{{ [" + "1," * 5_000 + "] }}",
    "{{ 9" + "9" * 10_000 + " }}",
]
UNSTORABLE = [
    r"{{ '\0' }}",
    r"{{ '\x00' }}",
    r"{{ 'a' 'b\u0000' }}",
    r"{{ '\ud800' }}",
    r"{{ '\ud83d' ~ '\ude00' }}",
    r"{{ {'\x00': 1} }}",
    r"{{ receiver['\udfff'] }}",
]


@pytest.mark.parametrize(
    "source",
    [
        *STATEMENTS,
        *NAMES_OUTSIDE,
        *CALLS,
        *FILTERS_OUTSIDE,
        *REPEATERS,
        *TOO_MUCH_TO_COMPILE,
        *UNSTORABLE,
    ],
    ids=lambda source: source[:60],
)
def test_a_template_that_reaches_outside_or_asks_for_too_much_is_refused(source: str) -> None:
    for compile_ in (compile_text, compile_json):

        def compiling(compile_: Callable[[str], Any] = compile_) -> None:
            with pytest.raises(InvalidTemplateError):
                compile_(source)

        assert_bounded(compiling)


BOMBS = [
    "{{ 'x' * 10**9 }}",
    "{{ 10**9 * 'x' }}",
    "{{ ('x' * 10**5) * 10**5 }}",
    "{{ 9**9**9**9 }}",
    "{{ 2 ** (10**9) }}",
    "{{ (-2) ** (10**9) }}",
    "{{ 2.0 ** (10**6) }}",
    "{{ 1 / 0 }}{{ 1 // 0 }}{{ 1 % 0 }}",
    "{{ receiver.tags * 10**9 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%s' % receiver }}",
    "{{ 5|round(-10**9) }}",
    "{{ 5|round(-100000000) }}",
    "{{ receiver.age|round(10**9) }}",
    "{{ receiver.name + receiver }}",
    "{{ receiver < sender }}",
    "{{ receiver.tags|sum }}",
    "{{ receiver.tags|map('sum')|list }}",
    "{{ receiver.tags|select('divisibleby', 0)|list }}",
    "{{ receiver|max(attribute='x') }}{{ receiver.orders|sort }}",
    "{% set a, b, c = receiver.tags[:2] %}",
    "{% for a, b in receiver.orders %}{{ a }}{% endfor %}{% for a, b, c in receiver.tags %}{% endfor %}",
    "{% for a in 'x' * 300000 %}{{ a }}{% endfor %}",
    "{% for a in receiver.tags %}" * 15 + "x" + "{% endfor %}" * 15,
    "{% for a in 'x' * 3000 %}{% for b in 'x' * 3000 %}{% endfor %}{% endfor %}",
    "{% for a in 'x' * 3000 %}" + "y" * 5_000 + "{% endfor %}",
    "{% for a in 'x' * 3000 %}{{ receiver|tojson }}{% endfor %}",
    "{% for a in 'x' * 3000 %}{{ receiver.custom ~ receiver }}{% endfor %}",
    "{% for a in 'x' * 3000 %}{% if loop.length %}{{ loop.nextitem }}{% endif %}{% endfor %}" * 3,
    "{% set a = 'x' * 1000 %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
    "{% set a = 'x' * 1000 %}" + "{% set a = a + a %}" * 40 + "{{ a }}",
    "{% set a = 'xx' %}" + "{% set a = a|replace('x', 'xxxx') %}" * 30 + "{{ a }}",
    "{% set a = 'xx' %}" + "{% set a = a|join(a) %}" * 20 + "{{ a }}",
    "{% set a = 'x' * 99999 %}" + "{% set a = a|join('yyyyyyyyyyyyyyyyyyyyyyy') %}" * 5 + "{{ a }}",
    "{% set a = 'é' * 9999 %}" + "{% set a = a|urlencode %}" * 40 + "{{ a }}",
    "{% set a = '\"' * 9999 %}" + "{% set a = a|tojson %}" * 40 + "{{ a }}",
    "{% set a = ('x' * 5000)|map(attribute='q', default='" + "y" * 15_000 + "')|list %}{{ a }}",
    "{{ ('x' * 5000)|map(attribute='q', default='" + "y" * 15_000 + "')|join }}",
    "{{ ('x' * 100000)|list|sort|unique|list }}{{ ('x' * 250000)|list|reverse|join }}",
    "{{ ('9' * 200000)|int(0, 16) }}",
    "{{ ('f' * 200000)|int(0, 16) * ('f' * 9)|int(0, 16) }}",
    "{{ ('ab ' * 100000)|title|wordcount }}{{ ('ab ' * 100000)|title }}",
    "{{ ('x' * 300000) in ('x' * 299999 ~ 'y') }}{{ 'x' * 300000 }}",
    "{% for x in receiver.tags %}{{ loop|list }}{% endfor %}",
    "{% set kwargs = 1 %}{% for i in 'x' * 30000 %}{{ kwargs }}{% endfor %}",
]  # fmt: skip


@pytest.mark.parametrize("source", BOMBS, ids=lambda source: source[:60])
def test_a_bomb_fails_its_receiver_alone(source: str) -> None:
    compiled = compile_text(source)

    def rendering() -> None:
        with pytest.raises(RenderError):
            compiled.render(VARIABLES)

    assert_bounded(rendering)
    assert compile_text("{{ receiver.name }}").render(VARIABLES) == "Ann"


JSON_BOMBS: list[Any] = [
    "{{ 10 ** 70 }}",
    "{{ 9007199254740993 }}",
    "{{ -(2 ** 54) }}",
    "{{ 10.0 ** 308 * 10 }}",
    "{{ 10.0 ** 308 * 10 - 10.0 ** 308 * 10 }}",
    "{{ (-8) ** 0.5 }}",
    "{{ receiver.tags|map('sum') }}",
    "{{ receiver.tags|select('divisibleby', 0) }}",
    "{{ ('x' * 300000)|list }}",
    "{{ ('x' * 30000)|map('upper') }}",
    "{{ ('x' * 5000)|map(attribute='q', default='" + "y" * 15_000 + "') }}",
    {f"k{i}": "{{ ('x' * 99999)|length }}" for i in range(100)},
    ["{{ 'x' * 99999 }}"] * 100,
]


@pytest.mark.parametrize("value", JSON_BOMBS, ids=lambda value: str(value)[:60])
def test_a_bomb_in_a_json_value_fails_its_receiver_alone(value: Any) -> None:
    compiled = compile_json(value)

    def rendering() -> None:
        with pytest.raises(RenderError):
            compiled.render(VARIABLES)

    assert_bounded(rendering)


@pytest.mark.parametrize(
    "value",
    [
        ["{{ receiver.name }}"] * 501,
        {f"k{i}": "{{ custom.x }}" + " " * 300 for i in range(100)},
        ["{{custom}}" for _ in range(100_000)],
    ],
    ids=["too many", "too long together", "a whole request of them"],
)
def test_templates_that_take_too_long_to_compile_are_refused(value: Any) -> None:
    def compiling() -> None:
        with pytest.raises(InvalidTemplateError):
            compile_json(value)

    assert_bounded(compiling)


HARMLESS = [
    ("{{ receiver.__class__ }}{{ receiver['__class__'] }}{{ ''.__class__ }}", ""),
    ("{{ receiver.items }}{{ receiver.keys }}{{ receiver.tags.append }}", ""),
    ("{{ receiver.tags|map(attribute='__class__')|join }}", ""),
    ("{{ receiver.orders|sort(attribute='__class__')|length }}", "2"),
    ("{% for x in [1] %}{{ loop.__init__ }}{{ loop._iterable }}{% endfor %}", ""),
    ("{% set receiver = 'me' %}{{ receiver }}", "me"),
    ("{% set x = 1 %}{% for i in [1, 2] %}{% set x = i %}{% endfor %}{{ x }}", "1"),
    ("{{ '{{ receiver.name }}' }}", "{{ receiver.name }}"),
    ("{{ 1 ** 9 }}{{ 0 * 10**9 }}", "10"),
]


@pytest.mark.parametrize(("source", "text"), HARMLESS)
def test_what_looks_hostile_may_be_harmless(source: str, text: str) -> None:
    assert compile_text(source).render(VARIABLES) == text


def test_a_value_of_the_receiver_is_never_a_template() -> None:
    variables = {**VARIABLES, "receiver": {"name": "{{ sender.name }}{% raw %}"}}

    assert compile_text("{{ receiver.name }}").render(variables) == "{{ sender.name }}{% raw %}"


def test_a_render_that_failed_leaves_the_next_one_its_whole_budget() -> None:
    greedy = compile_text("{{ 'x' * 100000 }}")
    with pytest.raises(RenderError):
        compile_text("{{ 'x' * 10**9 }}").render(VARIABLES)

    assert len(greedy.render(VARIABLES)) == len(greedy.render(VARIABLES)) == 100_000


def test_whatever_is_rendered_can_be_stored_as_json() -> None:
    value = compile_json(["{{ receiver }}", "{{ 2 ** 53 }}", "{{ receiver.orders|map('items') }}"])

    json.dumps(value.render(VARIABLES), allow_nan=False)


def assert_bounded(work: Callable[[], None]) -> None:
    """A guard against hangs and large allocations, generous for a busy machine."""
    started = time.thread_time()
    work()
    assert time.thread_time() - started < 1

    tracemalloc.start()
    try:
        work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50 * 2**20
