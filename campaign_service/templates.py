"""Templates: checked once when a campaign is written, compiled once a run, rendered per receiver."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Any

import orjson
from jinja2 import Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.runtime import Undefined

from campaign_service.errors import InvalidTemplateError
from campaign_service.sandbox import MAX_TEXT, Meter, Sandbox, forbidden

Variables = Mapping[str, Any]
_SANDBOX = Sandbox()
# compiling takes time, too, and comes before anyone is charged
_MAX_TEMPLATES = 500
_LARGEST_NUMBER = {bool: 1, int: 2**53, float: sys.float_info.max}


class RenderError(Exception):
    """The text can't be made for this receiver."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What a template reads: its variables and, where it names no more than these, their fields."""

    names: frozenset[str] = frozenset()
    fields: frozenset[tuple[str, str]] = frozenset()
    whole: frozenset[str] = frozenset()

    def __or__(self, other: "Reads") -> "Reads":
        return Reads(self.names | other.names, self.fields | other.fields, self.whole | other.whole)

    def fields_of(self, name: str) -> frozenset[str] | None:
        """None means that any field may be read."""
        if name in self.whole:
            return None
        return frozenset(field for owner, field in self.fields if owner == name)


@dataclass(frozen=True, slots=True)
class CompiledText:
    """A template for a text."""

    reads: Reads
    _render: Callable[[Variables], str]

    def render(self, variables: Variables) -> str:
        """Raises `RenderError`."""
        _SANDBOX.start_render()
        return self._render(variables)


@dataclass(frozen=True, slots=True)
class CompiledJson:
    """A JSON value with templates in its strings. Without any, `constant` is true."""

    reads: Reads
    _render: Callable[[Variables], Any]
    constant: bool = False
    most_bytes: int | None = None

    def render(self, variables: Variables) -> Any:
        """All of its templates share one budget. Raises `RenderError`."""
        _SANDBOX.start_render()
        value = self._render(variables)
        if self.most_bytes is not None and len(orjson.dumps(value)) > self.most_bytes:
            raise RenderError(f"more than {self.most_bytes} bytes")
        return value


def compile_text(source: str, field: str, allowed: frozenset[str]) -> CompiledText:
    """Raises `InvalidTemplateError` at `field` for syntax, forbidden parts and unknown names."""
    if not _has_template(source):
        return CompiledText(Reads(), lambda _: source)
    tree, reads = _parse(source, field, allowed)
    order = sorted(reads.names)
    macro = nodes.Macro(
        "render",
        [nodes.Name(name, "param") for name in order],
        [],
        tree.body,
        lineno=1,
    )
    template = _compile(nodes.Template([macro], lineno=1), field)
    # the function inside the macro: sorting out arguments costs as much as the render itself
    render = template.module.render._func  # type: ignore[attr-defined]  # noqa: SLF001

    def render_text(variables: Variables) -> str:
        try:
            return str(render(*[variables[name] for name in order]))
        except _RENDER_FAULTS as error:
            raise RenderError(str(error)) from error

    return CompiledText(reads, render_text)


def compile_json(
    value: Any, field: str, allowed: frozenset[str], *, most_bytes: int | None = None
) -> CompiledJson:
    """Compiles every string inside `value`; keys are never templates.

    A string that is exactly one `{{ expression }}` becomes the expression's value with its JSON
    type, a missing one null. What is rendered has at most `most_bytes` as JSON. Raises
    `InvalidTemplateError` as `compile_text` does.
    """
    sources = list(_sources(value))
    if len(sources) > _MAX_TEMPLATES or sum(map(len, sources)) > MAX_TEXT:
        problem = f"more than {_MAX_TEMPLATES} templates, or {MAX_TEXT} characters in them"
        raise InvalidTemplateError(field, problem)
    compiled = _compile_json(value, field, allowed)
    return compiled if compiled.constant else replace(compiled, most_bytes=most_bytes)


def _sources(value: Any) -> Iterator[str]:
    if isinstance(value, str) and _has_template(value):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _sources(item)


def _compile_json(value: Any, field: str, allowed: frozenset[str]) -> CompiledJson:
    if isinstance(value, str):
        return _compile_json_text(value, field, allowed)
    if isinstance(value, Mapping):
        items = {k: _compile_json(v, f"{field}.{k}", allowed) for k, v in value.items()}
        return _compose(
            list(items.values()),
            value,
            lambda variables: {k: item._render(variables) for k, item in items.items()},  # noqa: SLF001 - one budget
        )
    if isinstance(value, list | tuple):
        parts = [_compile_json(v, f"{field}[{i}]", allowed) for i, v in enumerate(value)]
        return _compose(parts, value, lambda variables: [p._render(variables) for p in parts])  # noqa: SLF001 - as above
    return _constant(value)


def _constant(value: Any) -> CompiledJson:
    return CompiledJson(Reads(), lambda _: value, constant=True)


def _compose(
    parts: list[CompiledJson], value: Any, render: Callable[[Variables], Any]
) -> CompiledJson:
    if all(part.constant for part in parts):
        return _constant(value)
    return CompiledJson(reduce(or_, (part.reads for part in parts)), render)


def _compile_json_text(source: str, field: str, allowed: frozenset[str]) -> CompiledJson:
    if not _has_template(source):
        return _constant(source)
    tree, reads = _parse(source, field, allowed)
    expression = _only_expression(tree)
    if expression is None:
        text = compile_text(source, field, allowed)
        return CompiledJson(text.reads, text._render)  # noqa: SLF001 - one budget
    assign = nodes.Assign(nodes.Name("value", "store"), expression, lineno=1)
    template = _compile(nodes.Template([assign], lineno=1), field)

    def render_value(variables: Variables) -> Any:
        context = template.new_context({name: variables[name] for name in reads.names})
        try:
            for _ in template.root_render_func(context):
                pass
            return _as_json(context.vars["value"])
        except _RENDER_FAULTS as error:
            raise RenderError(str(error)) from error

    return CompiledJson(reads, render_value)


def _as_json(value: Any) -> Any:
    if value is None or isinstance(value, Undefined):
        return None
    if isinstance(value, str):
        _SANDBOX.charge_text(len(value))
        return value
    _SANDBOX.charge(1)
    if isinstance(value, int | float):
        if not abs(value) <= _LARGEST_NUMBER[type(value)]:
            raise ValueError("a number that JSON can't hold exactly")
        return value
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    return [_as_json(item) for item in value]


def _has_template(source: str) -> bool:
    return "{{" in source or "{%" in source or "{#" in source


def _parse(source: str, field: str, allowed: frozenset[str]) -> tuple[nodes.Template, Reads]:
    if len(source) > MAX_TEXT:
        raise InvalidTemplateError(field, f"more than {MAX_TEXT} characters")
    try:
        tree = _SANDBOX.parse(source)
        problem = forbidden(tree)
        names = frozenset(meta.find_undeclared_variables(tree))
    except TemplateSyntaxError as error:
        raise InvalidTemplateError(field, f"line {error.lineno}: {error.message}") from error
    except _COMPILE_FAULTS as error:
        raise InvalidTemplateError(field, _TOO_LARGE) from error
    if problem:
        raise InvalidTemplateError(field, problem)
    if any(node.name == "self" for node in tree.find_all(nodes.Name)):
        names |= {"self"}
    if unknown := sorted(names - allowed):
        known = ", ".join(sorted(allowed))
        raise InvalidTemplateError(field, f"unknown name {unknown[0]!r}; known here: {known}")
    reads = _reads(tree, names)
    return Meter().visit(tree), reads


def _reads(tree: nodes.Template, names: frozenset[str]) -> Reads:
    accesses = [(node.node, node.attr) for node in tree.find_all(nodes.Getattr)]
    accesses += [(node.node, _constant_key(node)) for node in tree.find_all(nodes.Getitem)]
    fields = set()
    within_fields = set()
    for owner, key in accesses:
        if isinstance(owner, nodes.Name) and key:
            fields.add((owner.name, key))
            within_fields.add(id(owner))
    whole = {node.name for node in tree.find_all(nodes.Name) if id(node) not in within_fields}
    return Reads(names, frozenset(fields), frozenset(whole) & names)


def _constant_key(node: nodes.Getitem) -> str:
    key = node.arg.value if isinstance(node.arg, nodes.Const) else ""
    return key if isinstance(key, str) else ""


def _compile(tree: nodes.Template, field: str) -> Template:
    tree.set_environment(_SANDBOX)
    try:
        code = _SANDBOX.compile(tree)
        return Template.from_code(_SANDBOX, code, {})
    except TemplateSyntaxError as error:
        raise InvalidTemplateError(field, str(error.message)) from error
    except _COMPILE_FAULTS as error:
        raise InvalidTemplateError(field, _TOO_LARGE) from error


def _only_expression(tree: nodes.Template) -> nodes.Expr | None:
    if len(tree.body) != 1 or not isinstance(tree.body[0], nodes.Output):
        return None
    parts = tree.body[0].nodes
    if len(parts) != 1 or isinstance(parts[0], nodes.TemplateData):
        return None
    return parts[0]


_TOO_LARGE = "nested too deeply, or with too large a number"
_COMPILE_FAULTS = (
    RecursionError,
    SyntaxError,
    MemoryError,
    OverflowError,
    ValueError,
    TemplateError,
)
# what an expression over arbitrary JSON values may raise: all of it is the template's fault
_RENDER_FAULTS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,  # orjson's refusals are among these
    ValueError,
)
