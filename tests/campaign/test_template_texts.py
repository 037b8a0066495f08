"""What templates can do in a text."""

import pytest

from tests.campaign.rendering import VARIABLES, compile_text


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


def test_a_value_of_the_receiver_is_never_a_template() -> None:
    variables = {**VARIABLES, "receiver": {"name": "{{ sender.name }}{% raw %}"}}

    assert compile_text("{{ receiver.name }}").render(variables) == "{{ sender.name }}{% raw %}"


@pytest.mark.parametrize("name", ["sender", "receiver", "channel"])
def test_a_custom_field_is_read_flat_and_under_custom(name: str) -> None:
    variables = {**VARIABLES, name: {"country": "France", "custom": {"country": "France"}}}
    source = f"{{{{ {name}.country }}}} {{{{ {name}.custom.country }}}}"

    assert compile_text(source).render(variables) == "France France"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ receiver.nothing|upper }}{{ receiver.nickname|trim }}", ""),
        ("{{ receiver.tags|lower }}", '["b","a","b"]'),
        ("{{ receiver.orders|join(', ', attribute='id') }}", "1, 2"),
        ("{{ receiver|join(attribute='a.b') }}", ""),
        ("{{ 'aaa'|replace('a', 'b', 2) }}", "bba"),
        ("{{ 'xxaxx'|trim('x') }}", "a"),
        ("{{ 'b' in receiver.tags }} {{ 'age' in receiver }} {{ 'nn' in receiver.name }}", "True True True"),
        ("{{ 1 < receiver.age < 99 }} {{ receiver.tags == receiver.custom.tags }}", "True True"),
        ("{{ receiver.name[1:] }}{{ receiver.nickname[1:] }}", "nn"),
    ],
)  # fmt: skip
def test_filters_and_comparisons_read_values_as_texts_do(source: str, text: str) -> None:
    assert compile_text(source).render(VARIABLES) == text


def test_a_name_that_is_set_on_one_way_only_is_missing_on_the_others() -> None:
    source = "{% if receiver.vip %}{% set hail = 'Hail' %}{% endif %}{{ hail }}"
    compiled = compile_text(source)

    assert compiled.render({"receiver": {"vip": True}}) == "Hail"
    assert compiled.render({"receiver": {}}) == ""
