"""The grpcurl commands of the README's tour, to be run at any pair of servers."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.harness import grpcurl

_README = Path(__file__).parents[2] / "README.md"
_SECTION = re.compile(r"^(#+) [^\n]*\bTour\b[^\n]*\n(.*?)(?=^#{1,2} |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def walk(segment: str, campaign: str) -> list[str]:
    """Runs each command at these addresses, and returns the ports that the page names.

    Raises `GrpcurlError` with the first that fails.
    """
    commands = list(_commands())
    for command in commands:
        grpcurl.run(*(_at(word, segment, campaign) for word in command))
    return [port for command in commands for port in _ports(command)]


def _commands() -> Iterator[list[str]]:
    """The arguments of each grpcurl command, in the order of the page."""
    section = _SECTION.search(_README.read_text())
    assert section, "the README has no section called Tour"
    for block in _BLOCK.findall(section[2]):
        waiting = ""
        for line in block.replace("\\\n", " ").splitlines():
            waiting += line if not waiting else f"\n{line}"
            try:
                words = shlex.split(waiting, comments=True)
            except ValueError:
                continue  # a quoted request goes on in the next line
            waiting = ""
            if words:
                program, *arguments = words
                assert program == "grpcurl", f"not a command of the tour: {line}"
                yield arguments
        assert not waiting, f"an open quote: {waiting}"


def _at(word: str, segment: str, campaign: str) -> str:
    found = re.fullmatch(r"(?:127\.0\.0\.1|localhost):(5005[12])", word)
    return {"50051": segment, "50052": campaign}[found[1]] if found else word


def _ports(command: list[str]) -> list[str]:
    return [word.rpartition(":")[2] for word in command if re.fullmatch(r"[\w.]+:5005[12]", word)]
