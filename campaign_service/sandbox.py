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
_MAX_DIGITS = 30

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
_FILTERS = frozenset({*_JINJA_FILTERS, "join", "replace", "round", "string", "tojson"})
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
            "string": self._as_text,
            "tojson": self._to_json,
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
            self.charge_text(_length_of_text(operator, left, right))
        elif operator in ("*", "**"):
            _refuse_large_integers(operator, left, right)
        if isinstance(left, list | tuple) or isinstance(right, list | tuple):
            raise BudgetExceededError(f"{operator} is for numbers and texts")
        return super().call_binop(context, operator, left, right)

    def _output(self, value: Any) -> Any:
        # the one thing that every render does: spelled out, for speed
        text = value if type(value) is str else self._as_text(value)
        self._steps -= 1 + len(text) // _CHARACTERS_PER_STEP
        if self._steps < 0:
            raise BudgetExceededError(f"more than {_MAX_STEPS} steps")
        return text

    def charge(self, steps: int) -> None:
        """Raises `BudgetExceededError` when the render under way has no more steps."""
        self._steps -= steps
        if self._steps < 0:
            raise BudgetExceededError(f"more than {_MAX_STEPS} steps")

    def charge_text(self, length: int) -> None:
        self.charge(1 + length // _CHARACTERS_PER_STEP)

    def _metered(self, values: Iterable[Any], weight: int = 1) -> Iterator[Any]:
        for value in values:
            self.charge(weight)
            yield value

    def _charging(self, filter_: Callable[..., Any]) -> Callable[..., Any]:
        # a filter that wants the environment or a context gets it before the value
        place = 1 if hasattr(filter_, "jinja_pass_arg") else 0

        @wraps(filter_)
        def charged(*args: Any, **options: Any) -> Any:
            value = args[place]
            if isinstance(value, str):
                self.charge_text(len(value))
            elif isinstance(value, Iterable) and not isinstance(value, dict | Undefined):
                value = self._metered(value) if isinstance(value, Iterator) else value
                self.charge(len(value) if isinstance(value, list | tuple) else 1)
            else:
                self.charge(1)
            return filter_(*args[:place], value, *args[place + 1 :], **options)

        return charged

    def _join(self, values: Iterable[Any], separator: Any = "", attribute: Any = None) -> str:
        joint = self._as_text(separator)
        texts = []
        for item in values:
            text = self._as_text(item if attribute is None else self.getitem(item, attribute))
            self.charge_text(len(text) + len(joint))
            texts.append(text)
        return joint.join(texts)

    def _replace(self, value: Any, old: Any, new: Any) -> str:
        text, old_text, new_text = map(self._as_text, (value, old, new))
        self.charge_text(len(text) + text.count(old_text) * len(new_text))
        return text.replace(old_text, new_text)

    def _as_text(self, value: Any) -> str:
        """How a value reads in a text: null and missing are empty, lists and objects are JSON."""
        if isinstance(value, str):
            return value
        if value is None:
            return ""
        if isinstance(value, dict | list | tuple | Iterator):
            return self._to_json(value)
        return str(value)

    def _to_json(self, value: Any) -> str:
        value = list(value) if isinstance(value, Iterator) else value
        self._charge_json(value)
        return orjson.dumps(None if isinstance(value, Undefined) else value).decode()

    def _charge_json(self, value: Any) -> None:
        # before it is written: a few lists can hold the same large value many times
        self.charge_text(len(value) if isinstance(value, str) else 0)
        if isinstance(value, dict):
            for key, item in value.items():
                self._charge_json(key)
                self._charge_json(item)
        elif isinstance(value, list | tuple):
            for item in value:
                self._charge_json(item)


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
        if problem := _problem(node):
            return problem
    return None


def _problem(node: nodes.Node) -> str | None:
    match node:
        case nodes.List() | nodes.Tuple() | nodes.Dict() | nodes.Pair():
            if any(node.find_all((nodes.Name, nodes.Filter))) and not _is_target(node):
                return "a list or object written in a template holds only constants"
        # inside an `if`, Jinja itself would leave unknown filters and tests to the render
        case nodes.Filter(name=name) if name not in _FILTERS:
            return f"No filter named {name!r}"
        case nodes.Test(name=name) if name not in _TESTS:
            return f"No test named {name!r}"
        case nodes.Filter(name="map") if not _is_plain_map(node):
            return "map takes only constants"
        case nodes.Const(value=str(text)) if not _is_storable(text):
            return "a text with a NUL or half a surrogate pair"
        case nodes.For(recursive=True):
            return "recursive loops are not part of the language"
        case _ if not isinstance(node, _STRUCTURE + _EXPRESSIONS):
            return f"{type(node).__name__.lower()} is not part of the language"
        case _:
            pass
    return None


def _is_plain_map(node: nodes.Filter) -> bool:
    """Whether it can neither repeat a value without being charged nor reach the meter."""
    args = [*node.args, *(keyword.value for keyword in node.kwargs)]
    return (
        node.dyn_args is None
        and node.dyn_kwargs is None
        and all(isinstance(arg, nodes.Const) and arg.value not in (_METER, _CONCAT) for arg in args)
    )


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


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
        return sum(len(value) for value in (left, right) if isinstance(value, str))
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
    # of an integer, Python would work out ten to the power of any precision
    if not -_MAX_DIGITS <= precision <= _MAX_DIGITS:
        raise BudgetExceededError(f"rounding to more than {_MAX_DIGITS} digits")
    return round(value, precision)
