import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness.processes import free_address


@pytest.fixture
def running(sqlite_url: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`make run` in a folder of its own, both servers up."""
    environment = {
        "HERALD_DATABASE_URL": sqlite_url,
        "HERALD_SEGMENT_LISTEN": free_address(),
        "HERALD_CAMPAIGN_LISTEN": free_address(),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.tools.run_servers"],
        cwd=tmp_path,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if "Herald is up" in line:
                break
        yield process
        process.kill()


@pytest.mark.nightly_on("[2]")
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_both_servers_end_in_order_on_a_signal(
    running: subprocess.Popen[str], by: signal.Signals
) -> None:
    servers = psutil.Process(running.pid).children()
    assert len(servers) == 2

    running.send_signal(by)

    assert running.wait(30) == 0
    assert not psutil.wait_procs(servers, timeout=0)[1]


@pytest.mark.nightly
def test_a_second_signal_does_not_cut_the_stop_short(running: subprocess.Popen[str]) -> None:
    servers = psutil.Process(running.pid).children()
    running.send_signal(signal.SIGTERM)
    assert running.stdout
    assert "stopping\n" in running.stdout

    running.send_signal(signal.SIGTERM)

    assert running.wait(30) == 0
    assert not psutil.wait_procs(servers, timeout=0)[1]


@pytest.mark.nightly_on("[0]")
@pytest.mark.parametrize("which", [0, 1])
def test_a_server_that_dies_ends_the_other_one(running: subprocess.Popen[str], which: int) -> None:
    servers = psutil.Process(running.pid).children()
    assert len(servers) == 2

    servers[which].kill()

    assert running.wait(30) == 1
    assert not psutil.wait_procs(servers, timeout=0)[1]


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"HERALD_TLS_CERT": "a.crt", "HERALD_TLS_KEY": "a.key"}, "needs HERALD_TLS_CA"),
        ({"HERALD_TLS_CA": "nowhere.crt"}, "nowhere.crt"),
        ({"HERALD_TLS_CA": "a", "HERALD_TLS_CLIENT_CERT": "b"}, "needs HERALD_TLS_CLIENT_KEY"),
    ],
)
def test_servers_whose_health_could_not_be_asked_for_are_not_started(
    variables: dict[str, str], problem: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.tools.run_servers"],
        cwd=tmp_path,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
