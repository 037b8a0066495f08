"""The template language: the part of Jinja2 that is supported, checked when a template is written.

There are no calls but those of the listed filters and tests, and literals hold only constants.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

MAX_NODES = 1_000
# The time to compile grows with the square of the nesting: at these limits 30 ms of a core for loops,
# and 50 ms for an expression. Python itself compiles at most 20 nested loops.
MAX_STATEMENT_DEPTH = 16
_MAX_DEPTH = 100
MAX_INTEGER_BITS = 256
# a part takes a few tokens at most, apart from those nested in it
_MAX_TOKENS = 3 * MAX_NODES

# operators and statements become these filters; a template can't name them
LOOPED = "looped"
UNPACKED = "unpacked"
CONCATENATED = "concatenated"
COMPARED = "compared"
SLICED = "sliced"
_OF_OPERATORS = frozenset({LOOPED, UNPACKED, CONCATENATED, COMPARED, SLICED})


def compared(operator: str) -> str:
    """Names the filter that compares two values; `COMPARED` compares a chain of any length."""
    return f"compared {operator}"


def given_data(name: str) -> str:
    """Names the filter for arguments that are data, which may be missing or of another type."""
    return f"{name} given data"


FILTERS = frozenset(
    (
        "abs capitalize count d date default dictsort first float format int items join last "
        "length list lower map max min reject rejectattr replace reverse round select selectattr "
        "sort split string sum title tojson trim truncate unique upper urlencode wordcount"
    ).split()
)
TESTS = frozenset(
    (
        "boolean defined divisibleby eq equalto even false float ge greaterthan gt in integer "
        "iterable le lessthan lower lt mapping ne none number odd sequence string true undefined "
        "upper == != < <= > >="
    ).split()
)
_STRUCTURE = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign)
_LITERALS = (nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair)
_EXPRESSIONS = (
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Slice,
    nodes.Filter,
    nodes.Test,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.BinExpr,
    nodes.UnaryExpr,
    nodes.Concat,
    nodes.Keyword,
)


class TokenLimit(Extension):
    """Stops the parser at a template that is too large, because its time grows with the size."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for count, token in enumerate(stream):
            if count >= _MAX_TOKENS:
                raise TemplateSyntaxError(_TOO_MANY, token.lineno)
            yield token


def find_unsupported(template: nodes.Template) -> str | None:
    """Returns the first unsupported part of the template as a problem; None if there is none."""
    count = 0
    waiting = [_Part(template)]
    while waiting:
        part = waiting.pop()
        node = part.node
        count += 1
        if count > MAX_NODES:
            return _TOO_MANY
        if part.depth > _MAX_DEPTH or part.statements > MAX_STATEMENT_DEPTH:
            return "nested too deeply"
        if problem := _problem(node, in_literal=part.in_literal):
            return problem
        waiting += map(part.inside, node.iter_child_nodes())
    return None


@dataclass(frozen=True, slots=True)
class _Part:
    """A part, its depth, and the number of statements and the literal around it."""

    node: nodes.Node
    depth: int = 0
    statements: int = 0
    in_literal: bool = False

    def inside(self, child: nodes.Node) -> "_Part":
        node = self.node
        # `if`, `elif` and `else` are parts of one statement
        is_elif = isinstance(node, nodes.If) and child in node.elif_
        return _Part(
            child,
            self.depth + 1,
            self.statements + (isinstance(child, nodes.If | nodes.For) and not is_elif),
            self.in_literal or (isinstance(node, _LITERALS) and not _is_target(node)),
        )


def _problem(node: nodes.Node, *, in_literal: bool) -> str | None:
    match node:
        case nodes.Name() | nodes.Filter() if in_literal:
            return "a list or object written in a template holds only constants"
        # inside an `if`, Jinja reports unknown filters and tests only when it renders
        case nodes.Filter(name=name) if name not in FILTERS:
            return f"No filter named {name!r}"
        case nodes.Test(name=name) if name not in TESTS:
            return f"No test named {name!r}"
        case nodes.Filter(name="map") if not _is_plain_map(node):
            return "map takes only constants"
        case nodes.Const():
            return _constant_problem(node.value)
        case nodes.Tuple(ctx="store") if any(isinstance(i, nodes.Tuple) for i in node.items):
            return "names inside names can't be set"
        case nodes.For(recursive=True):
            return "recursive loops are not part of the language"
        case _ if not isinstance(node, _STRUCTURE + _EXPRESSIONS + _LITERALS):
            return f"{type(node).__name__.lower()} is not part of the language"
        case _:
            return None


def _constant_problem(value: Any) -> str | None:
    match value:
        case str() if not _is_storable(value):
            return "a text with a NUL or half a surrogate pair"
        case int() if value.bit_length() > MAX_INTEGER_BITS:
            return f"an integer of more than {MAX_INTEGER_BITS} bits"
        case float() if not math.isfinite(value):
            return "a number that is not finite"
        case _:
            return None


def _is_plain_map(node: nodes.Filter) -> bool:
    """Returns whether all arguments are constants, so that each filter that `map` calls is known."""
    args = [*node.args, *(keyword.value for keyword in node.kwargs)]
    return (
        node.dyn_args is None
        and node.dyn_kwargs is None
        and all(isinstance(arg, nodes.Const) and arg.value not in _OF_OPERATORS for arg in args)
    )


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _is_target(node: nodes.Node) -> bool:
    # `for key, value in …` names its variables in a tuple
    return isinstance(node, nodes.Tuple) and node.ctx == "store"


_TOO_MANY = f"more than {MAX_NODES} parts"
