"""Real processes of ours that start fast: forked from one that has imported everything already.

Nine tenths of a start are imports, and a fault run starts a server a dozen times.
"""

import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.harness.canaries import canaries

_PRELOADED = [
    "aiosqlite",
    "alembic.command",
    "asyncpg",
    "campaign_service.commands.restored",
    "campaign_service.commands.serve",
    "campaign_service.commands.verify",
    "campaign_service.commands.watch",
    "chat_store.imports.lines",
    "herald_rpc.process.runtime",
    "segment_service.server",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "tests.harness.forkserver",
    "typer",
]
_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


class ForkedProcess:
    """A process of the fork server, waited for as a `subprocess.Popen` is."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid: int = process.ident or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self._process.exitcode

    def send_signal(self, sig: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, sig)


def run(module: str, environment: Mapping[str, str], log: Path | None) -> ForkedProcess:
    """For a `Server`; it needs a log.

    Campaign servers send and deliver in their own process unless they are told otherwise: other
    processes are commands, which import everything anew.
    """
    assert log
    alone = {"HERALD_SENDER_PROCESSES": "0", "HERALD_DISPATCHER_PROCESSES": "0"}
    return ForkedProcess(start(module, alone | dict(environment), log))


def start(
    module: str,
    environment: Mapping[str, str],
    log: Path,
    *arguments: str,
    errors: Path | None = None,
) -> ForkServerProcess:
    """Runs `python -m module`, with these HERALD_* variables and no others.

    What it writes goes to `log`, also to its standard error unless there is a file for that.
    It leads a process group of its own. Whoever starts it must end it.
    """
    canaries.watch(errors or log)
    given = (module, dict(environment), log, errors or log, arguments)
    process = _context().Process(target=_run, args=given)
    process.start()
    return process


def completed(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module` without any HERALD_* variable to its end."""
    with TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        process = ForkedProcess(start(module, {}, output, *arguments, errors=errors))
        try:
            code = process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(
            [module, *arguments], code, output.read_text(), errors.read_text()
        )


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _run(
    module: str,
    environment: Mapping[str, str],
    output: Path,
    errors: Path,
    arguments: Sequence[str],
) -> None:
    # when this run is gone, so is the process that this one was forked from
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # ^C in a terminal is for the run
    os.setsid()
    for name in [name for name in os.environ if name.startswith("HERALD_")]:
        del os.environ[name]
    os.environ.update(environment)
    for number, path in ((1, output), (2, errors)):
        with path.open("ab", buffering=0) as file:
            os.dup2(file.fileno(), number)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
