"""The template language: Jinja2 cut down to reading JSON values in bounded time and memory.

Templates come from callers and run a million times in the sender's process. Jinja's own sandbox
keeps them from Python's internals but not from huge ranges, paddings and products. So there are no
calls at all, only listed filters, literals hold only constants, and whatever can repeat or grow is
charged to the render's budget: one that would exceed it fails, and with it that receiver alone.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

import orjson
from jinja2 import ChainableUndefined, TemplateError, nodes
from jinja2.runtime import LoopContext, Undefined
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_TEXT = 20_000
MAX_NODES = 1_000
# one step is about one evaluated node, or this many characters touched
_CHARACTERS_PER_STEP = 16
_MAX_STEPS = 20_000
_MAX_INTEGER_BITS = 256

_STRUCTURE = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign)
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
_LITERALS = (nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair)
_JINJA_FILTERS = (
    "abs capitalize count d default dictsort first float int items last length list lower map max "
    "min reject rejectattr reverse select selectattr sort sum title trim unique upper urlencode "
    "wordcount"
).split()
_TESTS = (
    "boolean defined divisibleby eq equalto even false float ge greaterthan gt in integer iterable "
    "le lessthan lower lt mapping ne none number odd sequence string true undefined upper "
    "== != < <= > >="
).split()
_METER = "metered loop"
_CONCAT = "concatenation"


class BudgetExceededError(TemplateError):
    """The render would take too many steps or grow too large."""


class Sandbox(SandboxedEnvironment):
    """Attribute access reads keys of JSON objects, and of `loop`; nothing else has attributes."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            undefined=ChainableUndefined,
            finalize=self._output,
            keep_trailing_newline=True,
            # folding constants would run `'x' * 10**9` while compiling
            optimized=False,
            cache_size=0,
        )
        own = {
            "join": self._join,
            "replace": self._replace,
            "round": _round,
            "string": as_text,
            "tojson": _to_json,
            _CONCAT: self._join,
        }
        jinjas = {name: self.filters[name] for name in _JINJA_FILTERS}
        self.filters = {name: self._charging(filter_) for name, filter_ in (jinjas | own).items()}
        self.filters[_METER] = self._metered
        self.tests = {name: self.tests[name] for name in _TESTS}
        self.globals.clear()
        self._steps = 0

    def start_render(self) -> None:
        """Gives the next render its budget. Renders don't interleave: none of them awaits."""
        self._steps = _MAX_STEPS

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict):
            value = obj.get(attribute, self)
            return self.undefined(obj=obj, name=attribute) if value is self else value
        if isinstance(obj, Undefined):
            return obj
        if isinstance(obj, LoopContext) and not attribute.startswith("_"):
            return super().getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):
            return obj
        if isinstance(obj, dict | list | tuple | str):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, str) or isinstance(right, str):
            self._charge_text(_length_of_text(operator, left, right))
        elif operator in ("*", "**"):
            _refuse_large_integers(operator, left, right)
        if isinstance(left, list | tuple) or isinstance(right, list | tuple):
            raise BudgetExceededError(f"{operator} is for numbers and texts")
        return super().call_binop(context, operator, left, right)

    def _output(self, value: Any) -> Any:
        # the one thing that every render does: spelled out, for speed
        text = value if type(value) is str else as_text(value)
        self._steps -= 1 + len(text) // _CHARACTERS_PER_STEP
        if self._steps < 0:
            raise BudgetExceededError(f"more than {_MAX_STEPS} steps")
        return text

    def _charge(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise BudgetExceededError(f"more than {_MAX_STEPS} steps")

    def _charge_text(self, length: int) -> None:
        self._charge(1 + length // _CHARACTERS_PER_STEP)

    def _metered(self, values: Iterable[Any], weight: int = 1) -> Iterator[Any]:
        for value in values:
            self._charge(weight)
            yield value

    def _charging(self, filter_: Callable[..., Any]) -> Callable[..., Any]:
        # a filter that wants the environment or a context gets it before the value
        place = 1 if hasattr(filter_, "jinja_pass_arg") else 0

        @wraps(filter_)
        def charged(*args: Any, **options: Any) -> Any:
            value = args[place]
            if isinstance(value, str):
                self._charge_text(len(value))
            elif isinstance(value, Iterable) and not isinstance(value, dict | Undefined):
                value = self._metered(value) if isinstance(value, Iterator) else value
                self._charge(len(value) if isinstance(value, list | tuple) else 1)
            else:
                self._charge(1)
            return filter_(*args[:place], value, *args[place + 1 :], **options)

        return charged

    def _join(self, values: Iterable[Any], separator: Any = "", attribute: Any = None) -> str:
        items = list(values)
        if attribute is not None:
            items = [self.getitem(item, attribute) for item in items]
        texts = [as_text(item) for item in items]
        joint = as_text(separator)
        self._charge_text(sum(map(len, texts)) + len(joint) * len(texts))
        return joint.join(texts)

    def _replace(self, value: Any, old: Any, new: Any) -> str:
        text, old_text, new_text = as_text(value), as_text(old), as_text(new)
        self._charge_text(len(text) + text.count(old_text) * len(new_text))
        return text.replace(old_text, new_text)


class Meter(NodeTransformer):
    """Routes what can repeat or grow, loops and `~`, through the sandbox's budget."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - the visitor's naming
        weight = sum(map(_weight, node.find_all(nodes.Node)))
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _METER, nodes.Const(weight))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - as above
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _CONCAT)


def forbidden(template: nodes.Template) -> str | None:
    """What the template uses that the language does not have, if anything."""
    for count, node in enumerate(template.find_all(nodes.Node)):
        if count >= MAX_NODES:
            return f"more than {MAX_NODES} parts"
        if isinstance(node, _LITERALS):
            if any(node.find_all((nodes.Name, nodes.Filter))) and not _is_target(node):
                return "a list or object written in a template holds only constants"
        elif not isinstance(node, _STRUCTURE + _EXPRESSIONS):
            return f"{type(node).__name__.lower()} is not part of the language"
        if isinstance(node, nodes.For) and node.recursive:
            return "recursive loops are not part of the language"
    return None


def as_text(value: Any) -> str:
    """How a value reads in a text: null and missing are empty, lists and objects are JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, dict | list | tuple):
        return orjson.dumps(value).decode()
    return str(value)


def _is_target(node: nodes.Node) -> bool:
    # `for key, value in …` names its variables in a tuple
    return isinstance(node, nodes.Tuple) and node.ctx == "store"


def _weight(node: nodes.Node) -> int:
    if isinstance(node, nodes.TemplateData):
        return 1 + len(node.data) // _CHARACTERS_PER_STEP
    return 1


def _filtered(node: nodes.Node, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _length_of_text(operator: str, left: Any, right: Any) -> int:
    if operator == "+":
        return len(as_text(left)) + len(as_text(right))
    if operator == "*":
        text, times = (left, right) if isinstance(left, str) else (right, left)
        return len(text) * times if isinstance(times, int) else 0
    raise BudgetExceededError(f"{operator} is for numbers")


def _refuse_large_integers(operator: str, left: Any, right: Any) -> None:
    if not (isinstance(left, int) and isinstance(right, int)):
        return
    bits = left.bit_length()
    bits = bits + right.bit_length() if operator == "*" else bits * abs(right)
    if bits > _MAX_INTEGER_BITS:
        raise BudgetExceededError(f"an integer of more than {_MAX_INTEGER_BITS} bits")


def _round(value: float, precision: int = 0) -> float:
    return round(value, precision)


def _to_json(value: Any) -> str:
    return orjson.dumps(None if isinstance(value, Undefined) else value).decode()
