"""Every durable step that the source has, and which server takes it."""

import ast
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TypeGuard

_PACKAGES = ("chat_store", "segment_service", "campaign_service")

# what the campaign server does by itself or is asked for; everything else is the segment server's
_CAMPAIGN_STEPS = ("run.", "campaign.", "hold.", "events.", "webhook.", "token.")
# no RPC and no worker takes it: it is there for those who use the store as a library
LIBRARY_STEPS = frozenset({"messages.upsert"})


def steps_in_source() -> list[str]:
    """The name that each write transaction of the product is given; empty for one without."""
    return sorted(_names())


def module_of(step: str) -> str:
    """Of the server that takes it; both take `schema.migrate`, on SQLite at every start."""
    return "campaign_service" if step.startswith(_CAMPAIGN_STEPS) else "segment_service"


def _names() -> Iterator[str]:
    for package in _PACKAGES:
        for source in _sources(resources.files(package)):
            if "transaction(" not in source:
                continue
            for node in _nodes(ast.parse(source)):
                if _is_write(node):
                    yield _text(next(iter(node.args), None))
                elif _is_write_all(node):
                    yield _text(node.args[1])


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All inside, but for `execute_in_transaction` itself: the name of its write is its callers'."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.AsyncFunctionDef) or child.name != "execute_in_transaction":
            yield child
            yield from _nodes(child)


def _text(name: ast.expr | None) -> str:
    return str(name.value) if isinstance(name, ast.Constant) else ""


def _sources(folder: Traversable) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sources(entry)
        elif entry.name.endswith(".py"):
            yield entry.read_text()


def _is_write(node: ast.AST) -> TypeGuard[ast.Call]:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr == "transaction" and ast.unparse(node.func.value).endswith("database")


def _is_write_all(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "execute_in_transaction"
    )
