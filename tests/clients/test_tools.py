import pytest

from tests.clients.example import version_in


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("v20.20.2\n", (20, 20, 2)),
        ("9.2.0\n", (9, 2, 0)),
        ("go version go1.26.8 linux/amd64\n", (1, 26, 8)),
        ("javac 17\n", (17,)),
        ("\x1b[1mApache Maven 3.8.7\x1b[m\nMaven home: /usr/share/maven\n", (3, 8, 7)),
        ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)\n", (1, 95, 0)),
    ],
)
def test_the_version_of_a_tool_is_read_as_each_tool_writes_it(
    said: str, version: tuple[int, ...]
) -> None:
    assert version_in(said) == version
