"""The examples in each language: what they need, how they are built and how they run."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "protos" / "examples"
_BUILD_SECONDS = 1200.0
_RUN_SECONDS = 300.0


# how npm, Go, Maven and Cargo say that they can't load packages
_NO_REGISTRY = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|dial tcp"
    r"|Could not transfer artifact|Could not resolve host|Couldn't connect to server"
    r"|spurious network error|failed to download"
)


class NoRegistryError(Exception):
    """The packages of an example can't be loaded on this machine."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that builds or runs an example, from this version on."""

    name: str
    version_of: str
    least: tuple[int, ...]

    def missing(self) -> str:
        """Why it can't be used here; empty if it can."""
        wanted = f"{self.name} {'.'.join(map(str, self.least))} or newer"
        if not shutil.which(self.name):
            return f"{wanted} is not here"
        said = subprocess.run(
            [self.name, self.version_of], capture_output=True, text=True, check=True
        ).stdout
        version = version_in(said)
        found = ".".join(map(str, version))
        return "" if version >= self.least else f"{wanted} is not here, but {found}"


def version_in(text: str) -> tuple[int, ...]:
    """The first version that a program names, whatever the colours that it writes in."""
    found = re.search(r"\d+(\.\d+)*", re.sub(r"\x1b\[[\d;]*m", "", text))
    assert found, f"no version in {text!r}"
    return tuple(map(int, found[0].split(".")))


@dataclass(frozen=True, slots=True)
class Example:
    """`main_job` and `steps` are commands in the folder of the language."""

    language: str
    tools: tuple[Tool, ...]
    main_job: tuple[str, ...]
    steps: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return EXAMPLES / self.language

    def missing(self) -> str:
        return "; ".join(filter(None, (tool.missing() for tool in self.tools)))

    def build(self) -> None:
        """Once a run. Raises `NoRegistryError`."""
        _build(self)

    def run_main_job(self, environment: Mapping[str, str]) -> str:
        return _run(self.main_job, self.folder, environment, _RUN_SECONDS)

    def run_steps(self, run: str, environment: Mapping[str, str]) -> str:
        command = [*self.steps, str(EXAMPLES / "steps.json"), run]
        return _run(command, self.folder, environment, _RUN_SECONDS)


@cache
def _build(example: Example) -> None:
    # a make that runs these tests has no say in this one
    outer = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
    try:
        _run(["make", "-s", f"client-{example.language}"], ROOT, outer, _BUILD_SECONDS)
    except AssertionError as error:
        if found := _NO_REGISTRY.search(str(error)):
            raise NoRegistryError(f"its packages can't be loaded: {found[0]}") from error
        raise


def _run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float
) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )
    end = f"{command} ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    assert done.returncode == 0, end
    return done.stdout


PYTHON = Example("python", (), (sys.executable, "main_job.py"), (sys.executable, "steps.py"))
NODE = Example(
    "node",
    (Tool("node", "--version", (20,)), Tool("npm", "--version", (9,))),
    ("node", "main_job.js"),
    ("node", "steps.js"),
)
GO = Example("go", (Tool("go", "version", (1, 26)),), ("bin/main_job",), ("bin/steps",))
JAVA = Example(
    "java",
    (Tool("javac", "--version", (17,)), Tool("mvn", "--version", (3, 8))),
    ("java", "-cp", "target/classes:target/lib/*", "herald.example.MainJob"),
    ("java", "-cp", "target/classes:target/lib/*", "herald.example.Steps"),
)
RUST = Example(
    "rust",
    (Tool("cargo", "--version", (1, 88)),),
    ("target/debug/main_job",),
    ("target/debug/steps",),
)
