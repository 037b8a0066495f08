"""`python -m segment_service`, as a process that does not begin to serve."""

from tests.harness import forkserver


def test_help_is_shown_and_nothing_is_started() -> None:
    done = forkserver.completed("segment_service", "--help")

    assert done.returncode == 0
    assert "HERALD_*" in done.stdout
    assert done.stderr == ""


def test_an_argument_that_it_does_not_have_starts_nothing() -> None:
    done = forkserver.completed("segment_service", "serve")

    assert done.returncode == 2
    assert "listening" not in done.stderr
