import re

import pytest

from herald_rpc.process.settings import ServerSettings, load
from tests.clients.example import EXAMPLES

_SOURCES = (
    *EXAMPLES.glob("python/*.py"),
    *EXAMPLES.glob("node/*.js"),
    *EXAMPLES.glob("go/*/*.go"),
    *EXAMPLES.glob("java/src/**/*.java"),
    *EXAMPLES.glob("rust/src/**/*.rs"),
)


def variables(source: str) -> set[str]:
    return set(re.findall(r"HERALD_[A-Z_]+", source))


def test_the_examples_read_the_same_variables_in_each_language() -> None:
    by_language: dict[str, set[str]] = {}
    for file in _SOURCES:
        language = file.relative_to(EXAMPLES).parts[0]
        by_language.setdefault(language, set()).update(variables(file.read_text()))

    assert by_language == dict.fromkeys(
        ("python", "node", "go", "java", "rust"),
        frozenset(
            {"HERALD_SEGMENT_TARGET", "HERALD_CAMPAIGN_TARGET", "HERALD_TLS_CA", "HERALD_TOKEN"}
        ),
    )


def test_a_server_starts_in_a_shell_that_is_set_up_for_the_examples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in set().union(*(variables(file.read_text()) for file in _SOURCES)):
        monkeypatch.setenv(name, "")

    load(ServerSettings)
