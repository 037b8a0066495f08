import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.harness import grpcurl
from tests.harness.processes import Pair

_README = Path(__file__).parents[2] / "README.md"
_SECTION = re.compile(r"^(#+) [^\n]*\bTour\b[^\n]*\n(.*?)(?=^#{1,2} |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_every_command_of_the_readmes_tour_works(pair: Pair) -> None:
    commands = list(_commands())

    for command in commands:
        grpcurl.run(*(_at_the_pair(word, pair) for word in command))

    assert {port for command in commands for port in _ports(command)} == {"50051", "50052"}


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


def _at_the_pair(word: str, pair: Pair) -> str:
    ports = {"50051": pair.segment.address, "50052": pair.campaign.address}
    found = re.fullmatch(r"(?:127\.0\.0\.1|localhost):(5005[12])", word)
    return ports[found[1]] if found else word


def _ports(command: list[str]) -> list[str]:
    return [word.rpartition(":")[2] for word in command if re.fullmatch(r"[\w.]+:5005[12]", word)]
