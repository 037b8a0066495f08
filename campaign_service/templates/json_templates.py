"""JSON values with templates in their strings, which may stand for values of any JSON type."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import orjson
from jinja2 import nodes
from jinja2.runtime import Undefined

from campaign_service.campaigns.errors import InvalidTemplateError
from campaign_service.campaigns.limits import MAX_JSON_DEPTH, MAX_TEXT
from campaign_service.templates.parsing import (
    SANDBOX,
    Parsed,
    Reads,
    compile_body,
    has_template,
    parse,
)
from campaign_service.templates.text_templates import RenderError, Variables, text_renderer

# compiling takes time too, which no budget limits
MAX_TEMPLATES = 200
_LARGEST_NUMBER = {bool: 1, int: 2**53 - 1, float: sys.float_info.max}


@dataclass(frozen=True, slots=True)
class CompiledJson:
    """A JSON value with templates in its strings; `constant` is true if there are none."""

    reads: Reads
    _render: Callable[[Variables], Any]
    constant: bool
    _most_bytes: int

    def render(self, variables: Variables) -> Any:
        """Renders all templates on one budget. Raises `RenderError`."""
        if self.constant:
            return self._render(variables)
        SANDBOX.budget.renew()
        value = self._render(variables)
        if len(orjson.dumps(value)) > self._most_bytes:
            raise RenderError(f"more than {self._most_bytes} bytes")
        return value


def compile_json(
    value: Any, field: str, allowed: frozenset[str], *, most_bytes: int
) -> CompiledJson:
    """Compiles every string inside `value`; keys are never templates.

    A string that is exactly one `{{ expression }}` becomes the expression's value with its JSON
    type; a missing value becomes null. A rendered value has at most `most_bytes` bytes as JSON, and
    nests no deeper than `MAX_JSON_DEPTH`. Raises `InvalidTemplateError` as `compile_text` does.
    """
    sources = list(_sources(value))
    if len(sources) > MAX_TEMPLATES or sum(map(len, sources)) > MAX_TEXT:
        problem = f"more than {MAX_TEMPLATES} templates, or {MAX_TEXT} characters in them"
        raise InvalidTemplateError(field, problem)
    part = _part(value, field, allowed, 0)
    return CompiledJson(part.reads, part.render, part.constant, most_bytes)


def _sources(value: Any) -> Iterator[str]:
    if isinstance(value, str) and has_template(value):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _sources(item)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the JSON value, rendered on the budget of the whole value."""

    reads: Reads
    render: Callable[[Variables], Any]
    constant: bool = False


def _part(value: Any, field: str, allowed: frozenset[str], depth: int) -> _Part:
    """Compiles a part. `depth` is the number of objects and lists around it."""
    if isinstance(value, str) and has_template(value):
        parsed = parse(value, field, allowed)
        expression = parsed.only_expression
        if expression is None:
            return _Part(parsed.reads, text_renderer(parsed))
        return _Part(parsed.reads, _value_renderer(expression, parsed, depth))
    if isinstance(value, Mapping):
        items = {k: _part(v, f"{field}.{k}", allowed, depth + 1) for k, v in value.items()}
        return _composed(
            list(items.values()),
            value,
            lambda variables: {k: item.render(variables) for k, item in items.items()},
        )
    if isinstance(value, list | tuple):
        parts = [_part(v, f"{field}[{i}]", allowed, depth + 1) for i, v in enumerate(value)]
        return _composed(parts, value, lambda variables: [p.render(variables) for p in parts])
    return _constant(value)


def _composed(parts: list[_Part], value: Any, render: Callable[[Variables], Any]) -> _Part:
    if all(part.constant for part in parts):
        return _constant(value)
    return _Part(reduce(or_, (part.reads for part in parts)), render)


def _constant(value: Any) -> _Part:
    return _Part(Reads(), lambda _: value, constant=True)


def _value_renderer(
    expression: nodes.Expr, parsed: Parsed, depth: int
) -> Callable[[Variables], Any]:
    assign = nodes.Assign(nodes.Name("value", "store"), expression, lineno=1)
    template = compile_body([assign], parsed.field)
    names = parsed.reads.names

    def rendered(variables: Variables) -> Any:
        context = template.new_context({name: variables[name] for name in names})
        try:
            for _ in template.root_render_func(context):
                pass
            return _as_json(context.vars["value"], depth)
        # any error of a template is its author's, and must not stop the sender
        except Exception as error:
            raise RenderError(str(error)) from error

    return rendered


def _as_json(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, Undefined):
        return None
    if isinstance(value, str):
        SANDBOX.budget.charge_text(len(value))
        return value
    SANDBOX.budget.charge(1)
    if isinstance(value, int | float):
        if not abs(value) <= _LARGEST_NUMBER[type(value)]:
            raise ValueError("a number that JSON can't hold exactly")
        return value
    if depth == MAX_JSON_DEPTH:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH}")
    if isinstance(value, Mapping):
        return {str(key): _as_json(item, depth + 1) for key, item in value.items()}
    return [_as_json(item, depth + 1) for item in value]
