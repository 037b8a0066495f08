"""A service manager is told when a server is ready and when it stops, as systemd expects."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from herald_rpc.server import service_manager
from tests.harness.processes import free_address


@pytest.mark.nightly_on("campaign_service")
@pytest.mark.parametrize(
    "command",
    [
        ["segment_service"],
        ["campaign_service"],
        ["campaign_service", "send"],
        ["campaign_service", "dispatch"],
    ],
    ids=" ".join,
)
def test_each_kind_of_server_tells_that_it_is_ready_and_that_it_stops(
    command: list[str], sqlite_url: str, tmp_path: Path
) -> None:
    environment = {
        "HERALD_DATABASE_URL": sqlite_url,
        "HERALD_SEGMENT_LISTEN": free_address(),
        "HERALD_CAMPAIGN_LISTEN": free_address(),
        "HERALD_SENDER_PROCESSES": "1",
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(100)
        manager.bind(environment["NOTIFY_SOCKET"])
        with subprocess.Popen(
            [sys.executable, "-m", *command],
            env=os.environ | environment,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert manager.recv(4096).decode().splitlines()[0] == "READY=1"
            process.send_signal(signal.SIGTERM)
            assert manager.recv(4096) == b"STOPPING=1"
            assert process.wait(100) == 0


def test_an_abstract_socket_of_linux_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")
        name: bytes = manager.getsockname()
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name[1:].decode()}")
        service_manager.notify("READY=1", "STATUS=listening")

        assert manager.recv(4096) == b"READY=1\nSTATUS=listening"


@pytest.mark.parametrize("manager", ["hangs", "is gone"])
def test_a_manager_that_is_gone_or_hangs_holds_nobody_up(
    manager: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unread:
        if manager == "hangs":
            unread.bind(str(tmp_path / "notify"))
        for _ in range(1000):
            service_manager.notify("READY=1")
