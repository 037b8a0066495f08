"""SQLite's connections stand on private members of aiosqlite, of which none may change unseen.

Where a test fails after an update of aiosqlite: read what has changed, see that
`chat_store.database.sqlite.engines` still does what it says, and write down the new digests.
"""

import ast
import hashlib
import inspect
import re
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from aiosqlite import core
from packaging.requirements import Requirement
from packaging.version import Version

from chat_store.database.sqlite import engines

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"

# what `_Connection` uses of its base class beside the public members
PRIVATE = {"_conn", "_connect", "_connection", "_execute", "_running", "_thread"}
# of all that sets, reads or runs these; without comments and layout, which may change
DIGESTS: dict[Callable[..., Any], str] = {
    core._connection_worker_thread: "87c1b54a26dd1100",
    aiosqlite.Connection.__init__: "10599783a1bdb413",
    aiosqlite.Connection._conn.fget: "832cf1eef91b1e34",  # type: ignore[attr-defined]
    aiosqlite.Connection._connect: "e2d9a8306056cf43",
    aiosqlite.Connection._execute: "2b905b09afd1bb9a",
    aiosqlite.Connection.__await__: "d740ec8888e9db41",
    aiosqlite.Connection.stop: "f22570e0fa716ec5",
    aiosqlite.Connection.close: "7ab6c7276cf67c8f",
    aiosqlite.Connection.commit: "619c48147fda38c5",
    aiosqlite.Connection.rollback: "13992f6fe9e69c1c",
}


def members_used_by(class_: type) -> set[str]:
    """Those of its own instance, and of its base class."""
    tree = ast.parse(inspect.getsource(class_))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"self", "super()"}
    }


def set_by(function: Callable[..., Any]) -> set[str]:
    return set(re.findall(r"self\.(\w+)(?:: [^=]+)? = ", inspect.getsource(function)))


def digest(function: Callable[..., Any]) -> str:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            del node.body[0]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def test_the_private_members_that_are_used_are_those_that_are_watched() -> None:
    own = set(vars(engines._Connection)) | set_by(engines._Connection.__init__)
    used = members_used_by(engines._Connection)
    inherited = used - (own - set(dir(aiosqlite.Connection)))

    base = set(vars(aiosqlite.Connection)) | set_by(aiosqlite.Connection.__init__)
    private = {name for name in inherited & base if re.match(r"_[a-z]", name)}

    assert private == PRIVATE


@pytest.mark.parametrize("function", DIGESTS, ids=lambda function: function.__qualname__)
def test_a_private_member_is_what_it_was(function: Callable[..., Any]) -> None:
    assert digest(function) == DIGESTS[function]


def test_versions_that_may_change_them_are_not_installed() -> None:
    project = tomllib.loads(_PROJECT.read_text())["project"]
    requirements = map(Requirement, project["dependencies"])
    (allowed,) = [found.specifier for found in requirements if found.name == "aiosqlite"]
    version = Version(aiosqlite.__version__)

    assert version in allowed
    assert Version(f"{version.major}.{version.minor + 1}") not in allowed
