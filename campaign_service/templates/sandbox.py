"""Where templates run: Jinja2 cut down to reading JSON values in bounded time and memory.

Templates come from callers and run a million times in the sender's process. Jinja's own sandbox
keeps them from Python's internals but not from huge ranges, paddings and products. So everything
that can repeat or grow is charged to the render's budget. A render that would exceed it fails, for
that receiver alone.
"""

from typing import Any

from jinja2 import ChainableUndefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import LoopContext, Undefined
from jinja2.sandbox import SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from campaign_service.templates.budget import CHARACTERS_PER_STEP, Budget, BudgetExceededError
from campaign_service.templates.filters import Filters
from campaign_service.templates.grammar import (
    COMPARED,
    CONCATENATED,
    LOOPED,
    MAX_INTEGER_BITS,
    SLICED,
    UNPACKED,
    TokenLimit,
    compared,
    given_data,
)
from campaign_service.templates.number_filters import refuse_large
from campaign_service.templates.values import NUMBERS, is_missing, is_number


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
    intercepted_unops = frozenset({"+", "-"})

    def __init__(self) -> None:
        self.budget = Budget()
        self.language = Filters(self, self.budget)
        super().__init__(
            undefined=ChainableUndefined,
            finalize=self.language.texts.output,
            keep_trailing_newline=True,
            optimized=False,
            cache_size=0,
            extensions=[TokenLimit],
        )
        self.filters = self.language.filters
        self.tests = self.language.tests
        self._format = self.language.texts.format
        self.globals.clear()

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict):
            value = obj.get(attribute)
            return self.undefined(obj=obj, name=attribute) if value is None else value
        if isinstance(obj, Undefined):
            return obj
        if isinstance(obj, LoopContext) and not attribute.startswith("_"):
            return super().getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        # also called for the parts of a filter's `attribute`, for every item
        self.budget.charge(1)
        if isinstance(obj, Undefined):
            return obj
        if isinstance(obj, dict | list | tuple | str):
            try:
                value = obj[argument]
            except (LookupError, TypeError):
                value = None
            if value is not None:
                return value
        return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002 - Jinja's signature
        """Calculates with numbers and texts. The result is missing where there is none."""
        if type(left) in NUMBERS and type(right) in NUMBERS:
            if type(left) is type(right) is int:
                _refuse_large(operator, left, right)
            try:
                result = self.binop_table[operator](left, right)
            except ZeroDivisionError:
                return self.undefined(name=operator)
            # the root of a negative number is complex
            return result if type(result) in NUMBERS else self.undefined(name=operator)
        if isinstance(left, str) or isinstance(right, str):
            return self._of_texts(operator, left, right)
        return self.undefined(name=operator)

    def call_unop(self, context: Any, operator: str, arg: Any) -> Any:
        if is_number(arg):
            return super().call_unop(context, operator, arg)
        return self.undefined(name=operator)

    def _of_texts(self, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            return self._format(left, right)
        if operator == "*":
            text, times = (left, right) if isinstance(left, str) else (right, left)
            if type(times) is int:
                self.budget.charge_text(len(text) * times)
                return text * times
        if operator == "+":
            given = [text for text in (left, right) if not is_missing(text)]
            if all(isinstance(text, str) for text in given):
                self.budget.charge_text(sum(map(len, given)))
                return "".join(given)
        return self.undefined(name=operator)


class Instrumentation(NodeTransformer):
    """Replaces operators and statements that can repeat, grow, take long or fail by filters."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - the visitor's naming
        weight = sum(map(_weight, node.find_all(nodes.Node)))
        self.generic_visit(node)
        node.iter = _filtered(node.iter, LOOPED, nodes.Const(weight), *_names(node.target))
        return node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Assign:  # noqa: N802 - as above
        self.generic_visit(node)
        if names := _names(node.target):
            node.node = _filtered(node.node, UNPACKED, *names)
        return node

    def visit_Add(self, node: nodes.Add) -> nodes.Node:  # noqa: N802 - as above
        """Joins as `~` does if one operand is a text for every receiver."""
        if is_text(node.left) or is_text(node.right):
            joined = nodes.Concat([node.left, node.right], lineno=node.lineno)
            return self.visit_Concat(joined)
        self.generic_visit(node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - as above
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), CONCATENATED)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802 - as above
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return _filtered(node.node, SLICED, *(bound or nodes.Const(None) for bound in bounds))

    def visit_Filter(self, node: nodes.Filter) -> nodes.Filter:  # noqa: N802 - as above
        self.generic_visit(node)
        given = [*node.args, *(keyword.value for keyword in node.kwargs)]
        if not all(isinstance(argument, nodes.Const) for argument in given):
            node.name = given_data(node.name)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Filter:  # noqa: N802 - as above
        self.generic_visit(node)
        if len(node.ops) == 1 and node.ops[0].op in _PAIRED:
            return _filtered(node.expr, compared(node.ops[0].op), node.ops[0].expr)
        others: list[nodes.Expr] = []
        for operand in node.ops:
            others += [nodes.Const(operand.op), operand.expr]
        return _filtered(node.expr, COMPARED, *others)


_PAIRED = frozenset({"lt", "lteq", "gt", "gteq", "eq", "ne"})
_TEXT_FILTERS = frozenset(
    (
        "capitalize date format join lower replace string title tojson trim truncate upper "
        "urlencode"
    ).split()
)


def is_text(node: nodes.Node) -> bool:
    """Returns whether the expression is a text for every receiver."""
    match node:
        case nodes.Const(value=str()) | nodes.Concat() | nodes.TemplateData():
            return True
        case nodes.Filter(name=name):
            return name in _TEXT_FILTERS
        case nodes.Add():
            return is_text(node.left) or is_text(node.right)
        case nodes.Mod() | nodes.Mul():
            return is_text(node.left)
        case _:
            return False


def _names(target: nodes.Node) -> list[nodes.Expr]:
    """Returns how many names an item is unpacked into; None if it is not unpacked."""
    return [nodes.Const(len(target.items))] if isinstance(target, nodes.Tuple) else []


def _weight(node: nodes.Node) -> int:
    if isinstance(node, nodes.TemplateData):
        return 1 + len(node.data) // CHARACTERS_PER_STEP
    return 1


def _filtered(node: nodes.Node, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _refuse_large(operator: str, left: int, right: int) -> None:
    refuse_large(left)
    refuse_large(right)
    bits = left.bit_length()
    if operator == "*" and bits + right.bit_length() > MAX_INTEGER_BITS:
        raise BudgetExceededError(f"a product of more than {MAX_INTEGER_BITS} bits")
    if operator == "**" and bits * abs(right) > MAX_INTEGER_BITS:
        raise BudgetExceededError(f"a power of more than {MAX_INTEGER_BITS} bits")
