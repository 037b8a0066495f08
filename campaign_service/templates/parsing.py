"""Parses a template's source into a tree that can be compiled, or reports what is wrong with it."""

from dataclasses import dataclass

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.compiler import Frame
from jinja2.environment import Template

from campaign_service.campaigns.errors import InvalidTemplateError
from campaign_service.campaigns.limits import MAX_TEXT
from campaign_service.templates.calls import find_wrong_call
from campaign_service.templates.grammar import find_unsupported
from campaign_service.templates.sandbox import Instrumentation, NoConstantFolding, Sandbox

SANDBOX = Sandbox()
# rare spaces, of which a text can use all but one
_STAND_INS = "\x1f\x1e\x1d\x1c\u205f\u2008\u2006\u2005\u2004"
_TOO_LARGE = "nested too deeply, or with too large a number"
_FAULTS = (RecursionError, SyntaxError, MemoryError, OverflowError, ValueError, TemplateError)


@dataclass(frozen=True, slots=True)
class Reads:
    """The variables that a template reads: single fields of them, or the whole."""

    names: frozenset[str] = frozenset()
    fields: frozenset[tuple[str, str]] = frozenset()
    whole: frozenset[str] = frozenset()

    def __or__(self, other: "Reads") -> "Reads":
        return Reads(self.names | other.names, self.fields | other.fields, self.whole | other.whole)

    def fields_of(self, name: str) -> frozenset[str] | None:
        """Returns the fields of a variable that are read; None means that any may be."""
        if name in self.whole:
            return None
        return frozenset(field for owner, field in self.fields if owner == name)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed template with its budget. `field` is the path at which a caller wrote it."""

    field: str
    body: list[nodes.Node]
    reads: Reads

    @property
    def only_expression(self) -> nodes.Expr | None:
        """Returns the expression if the template consists of nothing else; otherwise None."""
        output = self.body[0] if len(self.body) == 1 else None
        if not isinstance(output, nodes.Output) or len(output.nodes) != 1:
            return None
        (part,) = output.nodes
        return None if isinstance(part, nodes.TemplateData) else part


def has_template(source: str) -> bool:
    return "{{" in source or "{%" in source or "{#" in source


def parse(source: str, field: str, allowed: frozenset[str]) -> Parsed:
    """Parses a template.

    Raises `InvalidTemplateError` at `field` for wrong syntax, unsupported parts and unknown names.
    """
    if len(source) > MAX_TEXT:
        raise InvalidTemplateError(field, f"more than {MAX_TEXT} characters")
    try:
        tree = _tree(source)
        problem = find_unsupported(tree)
        problem = problem or find_wrong_call(tree, SANDBOX.language)
        names = frozenset() if problem else _undeclared(tree)
    except TemplateSyntaxError as error:
        raise InvalidTemplateError(field, f"line {error.lineno}: {error.message}") from error
    except _FAULTS as error:
        raise InvalidTemplateError(field, _TOO_LARGE) from error
    if problem:
        raise InvalidTemplateError(field, problem)
    stored = {node.name for node in tree.find_all(nodes.Name) if node.ctx == "store"}
    if unknown := sorted(names - allowed - stored):
        known = ", ".join(sorted(allowed))
        raise InvalidTemplateError(field, f"unknown name {unknown[0]!r}; known here: {known}")
    # a name that only one branch sets is missing in the others
    reads = _reads(tree, names & allowed)
    return Parsed(field, Instrumentation().visit(tree).body, reads)


def _tree(source: str) -> nodes.Template:
    """Parses the source and keeps each CR, which Jinja would turn into a line feed.

    While Jinja parses, a rare space that the source does not contain takes its place.
    """
    if "\r" not in source:
        return SANDBOX.parse(source)
    stand_in = next((character for character in _STAND_INS if character not in source), None)
    if stand_in is None:
        raise TemplateSyntaxError("a carriage return and too many kinds of spaces", lineno=1)
    tree = SANDBOX.parse(source.replace("\r", stand_in))
    for data in tree.find_all(nodes.TemplateData):
        data.data = data.data.replace(stand_in, "\r")
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, str):
            constant.value = constant.value.replace(stand_in, "\r")
    return tree


def compile_body(body: list[nodes.Node], field: str) -> Template:
    """Compiles the tree. Raises `InvalidTemplateError` at `field` if Python can't."""
    tree = nodes.Template(body, lineno=1)
    tree.set_environment(SANDBOX)
    try:
        return Template.from_code(SANDBOX, SANDBOX.compile(tree), {})
    except TemplateSyntaxError as error:
        raise InvalidTemplateError(field, str(error.message)) from error
    except _FAULTS as error:
        raise InvalidTemplateError(field, _TOO_LARGE) from error


class _Names(NoConstantFolding):
    """Collects the names that a render would look up, and generates no code."""

    def __init__(self) -> None:
        super().__init__(SANDBOX, None, None, optimized=False)
        self.undeclared: set[str] = set()

    def write(self, x: str) -> None:
        pass

    def enter_frame(self, frame: Frame) -> None:
        super().enter_frame(frame)
        for action, name in frame.symbols.loads.values():
            if action == "resolve" and name is not None:
                self.undeclared.add(name)


def _undeclared(tree: nodes.Template) -> frozenset[str]:
    names = _Names()
    names.visit(tree)
    # Jinja itself provides `self`
    if any(node.name == "self" for node in tree.find_all(nodes.Name)):
        names.undeclared.add("self")
    return frozenset(names.undeclared)


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
