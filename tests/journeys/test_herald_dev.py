import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness.herald_dev import HERALD, running_dev
from tests.harness.processes import free_address


@pytest.fixture
def addresses() -> dict[str, str]:
    return {"HERALD_SEGMENT_LISTEN": free_address(), "HERALD_CAMPAIGN_LISTEN": free_address()}


@pytest.fixture
def running(addresses: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with running_dev(tmp_path, addresses) as process:
        yield process


def ended(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=30)[1]


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


@pytest.mark.nightly
@pytest.mark.parametrize("which", [0, 1])
def test_a_server_that_dies_ends_the_other_one(running: subprocess.Popen[str], which: int) -> None:
    servers = psutil.Process(running.pid).children()
    assert len(servers) == 2

    servers[which].kill()

    assert running.wait(30) == 1
    assert not psutil.wait_procs(servers, timeout=0)[1]


@pytest.mark.nightly
def test_no_process_outlives_a_dev_that_is_killed(running: subprocess.Popen[str]) -> None:
    processes = psutil.Process(running.pid).children(recursive=True)
    assert len(processes) == 5, "two servers, two senders and a dispatcher"

    running.kill()

    assert ended(processes)


@pytest.mark.nightly
@pytest.mark.parametrize("variable", ["HERALD_SEGMENT_LISTEN", "HERALD_CAMPAIGN_LISTEN"])
def test_a_port_that_is_taken_is_named_and_nothing_is_left(
    variable: str, addresses: dict[str, str], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        host, _, port = addresses[variable].rpartition(":")
        taken.bind((host, int(port)))
        taken.listen()
        done = subprocess.run(
            [HERALD, "dev"],
            cwd=tmp_path,
            env=addresses,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    assert done.returncode == 1
    assert f"cannot listen on {addresses[variable]}: it is taken" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"HERALD_TLS_CERT": "a.crt", "HERALD_TLS_KEY": "a.key"}, "needs HERALD_TLS_CA"),
        ({"HERALD_TLS_CA": "nowhere.crt"}, "nowhere.crt"),
        ({"HERALD_TLS_CA": "a", "HERALD_TLS_CLIENT_CERT": "b"}, "needs HERALD_TLS_CLIENT_KEY"),
    ],
)
def test_servers_that_could_not_call_each_other_are_not_started(
    variables: dict[str, str], problem: str, addresses: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [HERALD, "dev"],
        cwd=tmp_path,
        env=addresses | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode in (1, 2)
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
