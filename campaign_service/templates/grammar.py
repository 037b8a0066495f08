"""The template language: what of Jinja2 it has, checked when a template is written.

It has no calls at all, only listed filters and tests, and literals hold only constants.
"""

import math
from collections.abc import Iterator

from jinja2 import TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

MAX_NODES = 1_000
MAX_INTEGER_BITS = 256
# a part is a few tokens at most, but for what nests
_MAX_TOKENS = 3 * MAX_NODES

# what metering puts into a template, and no template names
METERED = "metered"
CONCATENATED = "concatenated"
COMPARED = "compared"
SEARCHED = "searched"
SLICED = "sliced"
_OF_METERING = (METERED, CONCATENATED, COMPARED, SEARCHED, SLICED)

FILTERS = frozenset(
    (
        "abs capitalize count d default dictsort first float int items join last length list lower "
        "map max min reject rejectattr replace reverse round select selectattr sort string sum "
        "title tojson trim unique upper urlencode wordcount"
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
    """Ends the parsing of what has too many parts anyhow: the parser's time grows with them."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for count, token in enumerate(stream):
            if count >= _MAX_TOKENS:
                raise TemplateSyntaxError(_TOO_MANY, token.lineno)
            yield token


def find_unsupported(template: nodes.Template) -> str | None:
    """What the template uses that the language does not have, if anything."""
    count = 0
    waiting: list[tuple[nodes.Node, bool]] = [(template, False)]
    while waiting:
        node, in_literal = waiting.pop()
        count += 1
        if count > MAX_NODES:
            return _TOO_MANY
        if problem := _problem(node, in_literal=in_literal):
            return problem
        in_literal = in_literal or (isinstance(node, _LITERALS) and not _is_target(node))
        waiting += [(child, in_literal) for child in node.iter_child_nodes()]
    return None


def _problem(node: nodes.Node, *, in_literal: bool) -> str | None:
    match node:
        case nodes.Name() | nodes.Filter() if in_literal:
            return "a list or object written in a template holds only constants"
        # inside an `if`, Jinja itself would leave unknown filters and tests to the render
        case nodes.Filter(name=name) if name not in FILTERS:
            return f"No filter named {name!r}"
        case nodes.Test(name=name) if name not in TESTS:
            return f"No test named {name!r}"
        case nodes.Filter(name="map") if not _is_plain_map(node):
            return "map takes only constants"
        case nodes.Const(value=str(text)) if not _is_storable(text):
            return "a text with a NUL or half a surrogate pair"
        case nodes.Const(value=int(number)) if number.bit_length() > MAX_INTEGER_BITS:
            return f"an integer of more than {MAX_INTEGER_BITS} bits"
        case nodes.Const(value=float(number)) if not math.isfinite(number):
            return "a number that is not finite"
        case nodes.For(recursive=True):
            return "recursive loops are not part of the language"
        case _ if not isinstance(node, _STRUCTURE + _EXPRESSIONS + _LITERALS):
            return f"{type(node).__name__.lower()} is not part of the language"
        case _:
            return None


def _is_plain_map(node: nodes.Filter) -> bool:
    """Whether it can neither repeat a value without being charged nor reach the metering."""
    args = [*node.args, *(keyword.value for keyword in node.kwargs)]
    return (
        node.dyn_args is None
        and node.dyn_kwargs is None
        and all(isinstance(arg, nodes.Const) and arg.value not in _OF_METERING for arg in args)
    )


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _is_target(node: nodes.Node) -> bool:
    # `for key, value in …` names its variables in a tuple
    return isinstance(node, nodes.Tuple) and node.ctx == "store"


_TOO_MANY = f"more than {MAX_NODES} parts"
