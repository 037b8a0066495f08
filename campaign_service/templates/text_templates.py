"""Templates: checked once when a campaign is written, compiled once a run, rendered per receiver."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from jinja2 import nodes

from campaign_service.templates.parsing import (
    SANDBOX,
    Parsed,
    Reads,
    compile_body,
    has_template,
    parse,
)

Variables = Mapping[str, Any]


class RenderError(Exception):
    """The text can't be rendered for this receiver."""


@dataclass(frozen=True, slots=True)
class CompiledText:
    """A template for a text."""

    reads: Reads
    _render: Callable[[Variables], str]

    def render(self, variables: Variables) -> str:
        """Renders the text. Raises `RenderError`."""
        SANDBOX.budget.renew()
        return self._render(variables)


def compile_text(source: str, field: str, allowed: frozenset[str]) -> CompiledText:
    """Compiles a template. Raises `InvalidTemplateError` as `parse` does."""
    if not has_template(source):
        return CompiledText(Reads(), lambda _: source)
    parsed = parse(source, field, allowed)
    return CompiledText(parsed.reads, text_renderer(parsed))


def text_renderer(parsed: Parsed) -> Callable[[Variables], str]:
    """Returns a function that renders within the rest of the budget.

    Raises `InvalidTemplateError` as `parse` does.
    """
    order = sorted(parsed.reads.names)
    arguments = _picker(order)
    parameters = [nodes.Name(name, "param") for name in order]
    macro = nodes.Macro("render", parameters, [], parsed.body, lineno=1)
    module = compile_body([macro], parsed.field).module
    # the function inside the macro: its own call sorts the arguments, for as long as the render
    render = module.render._func  # type: ignore[attr-defined]  # noqa: SLF001

    def rendered(variables: Variables) -> str:
        try:
            return str(render(*arguments(variables)))
        # any error of a template is its author's, and must not stop the sender
        except Exception as error:
            raise RenderError(str(error)) from error

    return rendered


def _picker(names: Sequence[str]) -> Callable[[Variables], Sequence[Any]]:
    if len(names) > 1:
        return itemgetter(*names)
    # an item getter needs a name, and returns no tuple for a single one
    return lambda variables: [variables[name] for name in names]
