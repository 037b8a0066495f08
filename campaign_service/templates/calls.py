"""Finds filters, tests and operators whose arguments are wrong for every receiver."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import nodes

from campaign_service.templates import grammar
from campaign_service.templates.arguments import NOT_CONSTANT, signature_of
from campaign_service.templates.filters import Filters
from campaign_service.templates.placeholders import placeholders_problem

Functions = Mapping[str, Callable[..., Any]]
_SELECTING = frozenset({"select", "reject"})
_SELECTING_BY_ATTRIBUTE = frozenset({"selectattr", "rejectattr"})


def find_wrong_call(template: nodes.Template, language: Filters) -> str | None:
    """Returns the problem of the first wrong call; None if there is none."""
    calls = _Calls(language.filters, language.tests)
    return next(filter(None, map(calls.problem, _calling(template))), None)


def _calling(template: nodes.Template) -> Iterator[nodes.Node]:
    kinds = (nodes.Filter, nodes.Test, nodes.Div, nodes.FloorDiv, nodes.Mod)
    return template.find_all(kinds)


class _Calls:
    def __init__(self, filters: Functions, tests: Functions) -> None:
        self._filters = filters
        self._tests = tests

    def problem(self, node: nodes.Node) -> str | None:
        match node:
            case nodes.Mod(left=nodes.Const(value=str(text))):
                return placeholders_problem(text, 1)
            case nodes.BinExpr(right=nodes.Const(value=int() | float() as number)):
                return "division by zero" if number == 0 else None
            case nodes.Filter() | nodes.Test() if node.dyn_args or node.dyn_kwargs:
                return "the arguments of filters and tests are written one by one"
            case nodes.Filter():
                given, named = _arguments(node)
                return self._filter_problem(node, given, named)
            case nodes.Test():
                return self._signature_problem(self._tests, node.name, *_arguments(node))
            case _:
                return None

    def _filter_problem(
        self, node: nodes.Filter, given: Sequence[Any], named: Mapping[str, Any]
    ) -> str | None:
        name = node.name
        if name == "map":
            return self._map_problem(given, named)
        if name in _SELECTING:
            return self._test_problem(name, given, named)
        if name in _SELECTING_BY_ATTRIBUTE:
            if not given:
                return f"{name} needs an attribute"
            return self._test_problem(name, given[1:], named)
        if name == "format" and isinstance(node.node, nodes.Const):
            return placeholders_problem(str(node.node.value), len(given))
        return self._signature_problem(self._filters, name, given, named)

    def _map_problem(self, given: Sequence[Any], named: Mapping[str, Any]) -> str | None:
        if not given:
            known = {"attribute", "default"}
            return None if "attribute" in named and known >= set(named) else _MAP
        name, *others = given
        if name not in grammar.FILTERS:
            return f"map: No filter named {name!r}"
        if name in ("map", *_SELECTING, *_SELECTING_BY_ATTRIBUTE):
            return f"map takes no {name}"
        return self._signature_problem(self._filters, name, others, named)

    def _test_problem(
        self, filter_name: str, given: Sequence[Any], named: Mapping[str, Any]
    ) -> str | None:
        if not given:
            return f"{filter_name} takes no {next(iter(named))!r}" if named else None
        name, *others = given
        if name is NOT_CONSTANT or name not in grammar.TESTS:
            return f"{filter_name} takes the name of a test"
        return self._signature_problem(self._tests, name, others, named)

    def _signature_problem(
        self, functions: Functions, name: str, given: Sequence[Any], named: Mapping[str, Any]
    ) -> str | None:
        return signature_of(functions[name], name).problem(given, named)


def _arguments(node: nodes.Filter | nodes.Test) -> tuple[list[Any], dict[str, Any]]:
    # parameters that Jinja declares as pairs are keywords, too
    keywords: list[Any] = list(node.kwargs)
    named = {keyword.key: _constant(keyword.value) for keyword in keywords}
    return [_constant(argument) for argument in node.args], named


def _constant(argument: nodes.Expr) -> Any:
    match argument:
        case nodes.Const(value=value):
            return value
        # Jinja parses a sign as an operator, not as a part of the number
        case nodes.Neg(node=nodes.Const(value=int() | float() as number)):
            return -number
        case _:
            return NOT_CONSTANT


_MAP = "map takes a filter and its arguments, or an attribute and a default"
