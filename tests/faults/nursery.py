"""Real server processes that start fast: forked from one that has imported everything already.

A fault run starts a server a dozen times, and nine tenths of such a start are imports.
"""

import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

_PRELOADED = [
    "aiosqlite",
    "alembic.command",
    "asyncpg",
    "campaign_service.server",
    "campaign_service.verify_command",
    "campaign_service.watch_command",
    "herald_rpc.runtime",
    "segment_service.server",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "tests.faults.nursery",
]
_PR_SET_PDEATHSIG = 1


def start(
    module: str, environment: Mapping[str, str], log: Path, *arguments: str
) -> ForkServerProcess:
    """Runs `python -m module`, with these HERALD_* variables and no others.

    It leads a process group of its own. Whoever starts it must end it.
    """
    process = _context().Process(target=_run, args=(module, dict(environment), log, arguments))
    process.start()
    return process


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _run(module: str, environment: Mapping[str, str], log: Path, arguments: Sequence[str]) -> None:
    # when this run is gone, so is the process that this one was forked from
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # ^C in a terminal is for the run
    os.setsid()
    for name in [name for name in os.environ if name.startswith("HERALD_")]:
        del os.environ[name]
    os.environ.update(environment)
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
