"""Where templates run: Jinja2 cut down to reading JSON values in bounded time and memory.

Templates come from callers and run a million times in the sender's process. Jinja's own sandbox
keeps them from Python's internals but not from huge ranges, paddings and products. So whatever can
repeat or grow is charged to the render's budget: one that would exceed it fails, and with it that
receiver alone.
"""

from typing import Any

from jinja2 import ChainableUndefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import LoopContext, Undefined
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from campaign_service.templates.budget import CHARACTERS_PER_STEP, Budget, BudgetExceededError
from campaign_service.templates.filters import Filters, refuse_large
from campaign_service.templates.grammar import (
    COMPARED,
    CONCATENATED,
    MAX_INTEGER_BITS,
    METERED,
    SEARCHED,
    SLICED,
    TokenLimit,
)


class NoConstantFolding(CodeGenerator):
    """Leaves constants to the render: folding them would run filters while compiling."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)


class Sandbox(SandboxedEnvironment):
    """Attribute access reads keys of JSON objects, and of `loop`; nothing else has attributes."""

    code_generator_class = NoConstantFolding
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        self.budget = Budget()
        filters = Filters(self.budget)
        super().__init__(
            undefined=ChainableUndefined,
            finalize=filters.output,
            keep_trailing_newline=True,
            optimized=False,
            cache_size=0,
            extensions=[TokenLimit],
        )
        self.filters = filters.filters
        self.tests = filters.tests
        self.globals.clear()

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
        # the parts of a filter's `attribute` come here, too, for every item
        self.budget.charge(1)
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
            self.budget.charge_text(_length_of_text(operator, left, right))
        elif isinstance(left, int) and isinstance(right, int):
            _refuse_large(operator, left, right)
        if isinstance(left, list | tuple) or isinstance(right, list | tuple):
            raise BudgetExceededError(f"{operator} is for numbers and texts")
        return super().call_binop(context, operator, left, right)


class BudgetInstrumentation(NodeTransformer):
    """Routes what can repeat, grow or take long and calls no filter through the budget."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - the visitor's naming
        weight = sum(map(_weight, node.find_all(nodes.Node)))
        self.generic_visit(node)
        node.iter = _filtered(node.iter, METERED, nodes.Const(weight))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - as above
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), CONCATENATED)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:  # noqa: N802 - as above
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filtered(node.node, SLICED)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802 - as above
        self.generic_visit(node)
        node.expr = _filtered(node.expr, COMPARED)
        for operand in node.ops:
            name = SEARCHED if operand.op in ("in", "notin") else COMPARED
            operand.expr = _filtered(operand.expr, name)
        return node


def _weight(node: nodes.Node) -> int:
    if isinstance(node, nodes.TemplateData):
        return 1 + len(node.data) // CHARACTERS_PER_STEP
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


def _refuse_large(operator: str, left: int, right: int) -> None:
    refuse_large(left)
    refuse_large(right)
    bits = left.bit_length()
    if operator == "*" and bits + right.bit_length() > MAX_INTEGER_BITS:
        raise BudgetExceededError(f"a product of more than {MAX_INTEGER_BITS} bits")
    if operator == "**" and bits * abs(right) > MAX_INTEGER_BITS:
        raise BudgetExceededError(f"a power of more than {MAX_INTEGER_BITS} bits")
