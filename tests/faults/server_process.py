"""One server, kept running as a supervisor would, and the ways to do it harm."""

import asyncio
import os
import resource
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import orjson
import psutil

from chat_store.database.crash_points import VARIABLE, CrashPoint
from tests.harness import forkserver

_PAUSE_AFTER_REFUSAL = 0.2
_STOP_SECONDS = 20.0
_TAIL_LINES = 30
_ERRORS = {"error", "critical"}
# the store's words for it
_FULL = ("the database's disk fails", "the database's disk is full")
_LOOK_SECONDS = 0.05


class UnexpectedEndError(Exception):
    """A server ended, or said something, that no fault explains."""


class ServerProcess:
    """Each life of it takes the next of the `crashes` with it, and dies there if it gets there.

    `fired` counts what has happened to it.
    """

    def __init__(
        self,
        module: str,
        address: str,
        environment: Mapping[str, str],
        log: Path,
        crashes: Sequence[CrashPoint] = (),
    ) -> None:
        self.module = module
        self.address = address
        self.fired: Counter[str] = Counter()
        self.errors: list[str] = []
        """What it has logged as an error, and tracebacks from elsewhere."""
        self._environment = dict(environment)
        self._log = log
        self._crashes = list(crashes)
        self._process: ForkServerProcess | None = None
        self._stopping = False
        self._told_to_die = False
        self._is_terminated = False
        self._life_begins_at = 0
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Starts it again and again, until `stop`. Raises `UnexpectedEndError`.

        Cancelled, it leaves no process behind.
        """
        try:
            while not self._stopping:
                crash = self._crashes.pop(0) if self._crashes else None
                self._told_to_die = self._is_terminated = False
                self._life_begins_at = self._log.stat().st_size if self._log.exists() else 0
                environment = self._environment | ({VARIABLE: str(crash)} if crash else {})
                self._process = forkserver.start(self.module, environment, self._log)
                async with asyncio.TaskGroup() as group:
                    end = group.create_task(_end_of(self._process))
                    if crash:
                        group.create_task(self._kill_crashed(end))
                process, self._process = self._process, None
                process.join()
                refused = self._judge(process.exitcode, crash)
                process.close()
                await asyncio.sleep(_PAUSE_AFTER_REFUSAL if refused else 0)
            self._ended.set()
        finally:
            self.kill()

    async def _kill_crashed(self, end: "asyncio.Task[None]") -> None:
        """A process of the server that dies at its point takes it along, as when the machine goes."""
        while not end.done():
            await asyncio.wait([end], timeout=_LOOK_SECONDS)
            if any(line.get("event") == VARIABLE for line in self._lines(self._life_begins_at)):
                self._signal_all(signal.SIGKILL)

    async def stop(self) -> None:
        """With SIGTERM; it must end well."""
        self._stopping = True
        self._terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            raise self._error("did not end on SIGTERM") from None

    def kill(self) -> None:
        """With all its processes, as when the machine goes."""
        self._told_to_die = self._signal_all(signal.SIGKILL)

    def drain(self) -> None:
        """As an operator restarts it: SIGTERM, and started again when it has ended."""
        if self._terminate():
            self.fired["drain"] += 1

    def freeze(self) -> None:
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def limit_files(self, size: int) -> None:
        """No file of it grows beyond that many bytes any more; -1 for no limit."""
        for pid in self._processes():
            with suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    def has(self, pid: int) -> bool:
        """Whether that is one of its processes."""
        return pid in self._processes()

    @property
    def is_up(self) -> bool:
        """Whether it listens, in this life."""
        lines = self._lines(self._life_begins_at)
        return self.pid is not None and any(line.get("event") == "listening" for line in lines)

    def sends_in(self, processes: int) -> bool:
        """Whether so many of its processes have begun to send, in this life."""
        lines = self._lines(self._life_begins_at)
        return sum(line.get("event") == "sending" for line in lines) >= processes

    @property
    def senders(self) -> list[int]:
        """The processes that it has started to send."""
        return self._processes()[1:]

    @property
    def pid(self) -> int | None:
        """None between two lives."""
        return None if self._process is None else self._process.pid

    def said(self, event: str) -> int:
        """How often it has logged that event, in all its lives."""
        return sum(line.get("event") == event for line in self._lines(0))

    def said_of_disk(self) -> int:
        """How many writes the disk had no room for, as far as it has told."""
        return sum(
            any(words in (line.get("error") or "") for words in _FULL) for line in self._lines(0)
        )

    def tail(self) -> str:
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def _judge(self, code: int | None, crash: CrashPoint | None) -> bool:
        """Whether it refused to start. Raises for an end that it should not have come to."""
        lines = self._lines(self._life_begins_at)
        events = Counter(line.get("event") for line in lines)
        if crash and code and events[VARIABLE]:
            self.fired["crash"] += 1
            self.fired[f"crash {crash.step}:{crash.point}"] += 1
            return False
        self.errors += [
            str(line)
            for line in lines
            if line.get("level") in _ERRORS and line.get("event") != "can't start"
        ]
        if code == -signal.SIGKILL and self._told_to_die:
            self.fired["kill"] += 1
        elif code == 1 and events["can't start"] and not events["listening"]:
            self.fired["refused-start"] += 1
            return True
        elif code == -signal.SIGSEGV and self._has_crashed_in_grpc():
            self.fired["crash-in-grpc"] += 1
        elif code != 0 and (code != -signal.SIGTERM or events["listening"]):
            raise self._error(f"ended with {code} by itself")
        return False

    def _has_crashed_in_grpc(self) -> bool:
        """Whether a thread crashed that runs no Python, in this life.

        gRPC alone has such threads, and 1.85.3 crashes in one now and then, when servers around it
        are killed: its "event_engine". It is one more crash that the campaign must outlast.
        """
        with self._log.open("rb") as log:
            log.seek(self._life_begins_at)
            text = log.read()
        return b"Fatal Python error: Segmentation fault" in text and b"Current thread" not in text

    def _lines(self, offset: int) -> list[dict[str, str]]:
        if not self._log.exists():
            return []
        with self._log.open("rb") as log:
            log.seek(offset)
            return [_read(line) for line in log]

    def _terminate(self) -> bool:
        """Sends SIGTERM once a life, because a second one ends a server at once."""
        if self.pid is None or self._is_terminated:
            return False
        self._is_terminated = True
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        return True

    def _signal_all(self, number: signal.Signals) -> bool:
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return self.pid is not None

    def _processes(self) -> list[int]:
        """The server's, and those that it has started."""
        if self.pid is None:
            return []
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(self.pid).children(recursive=True)
            return [self.pid, *(process.pid for process in started)]
        return []

    def _error(self, problem: str) -> UnexpectedEndError:
        return UnexpectedEndError(f"{self.module} {problem}\n{self.tail()}")


def _read(line: bytes) -> dict[str, str]:
    if line.startswith(VARIABLE.encode()):
        return {"event": VARIABLE, "level": "info"}
    try:
        read = orjson.loads(line)
    except orjson.JSONDecodeError:
        level = "error" if line.startswith(b"Traceback") else "info"
        return {"event": line.decode(errors="replace").rstrip(), "level": level}
    return read if isinstance(read, dict) else {"event": str(read)}


async def _end_of(process: ForkServerProcess) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    sentinel = process.sentinel
    loop.add_reader(sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(sentinel)
