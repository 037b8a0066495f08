"""Runs a command as a child process that takes orders from this one and ends with it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Self

import structlog

from herald_rpc.process.outages import Outages
from herald_rpc.process.waiting import wait_at_most

logger = structlog.get_logger(__name__)

_WAKE, _STOP = b"n", b"s"
_TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)
_STOP_SIGNALS = (signal.SIGTERM, *_TERMINAL_SIGNALS)
# a process that lived this long has started: importing everything takes 1 to 4 s
_SETTLED_SECONDS = 10.0
_STOPPED = {0, *(-number for number in _STOP_SIGNALS)}
_STANDARD_INPUT = 0


class WorkerProcessDiedError(Exception):
    """A process ended before it was stopped, or failed when it was."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} has ended with {code}")


class WorkerProcess:
    """Runs a command that calls `follow_orders`, and restarts it if it ends too early.

    The process starts when the context is entered, so that its imports take place meanwhile. Its
    work begins with `run`. It inherits the environment and standard error. Leaving the context
    kills it.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self._name = name
        self._command = command
        self._outages = Outages(WorkerProcessDiedError, OSError)
        self._orders: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_well(self) -> bool:
        """Whether the process has not died within the last few seconds."""
        return not self._outages

    def wake(self) -> None:
        """Sets `woken` in the process."""
        self._send_order(_WAKE)

    async def run(self, stop: asyncio.Event) -> None:
        """Sets `stop` in the process when this one is set, and returns when the process has ended.

        If cancelled, kills the process, even if it is suspended or stuck. Raises
        `WorkerProcessDiedError` when the process fails after `stop` is set.
        """
        while True:
            try:
                process = self._process or await self._start()
            except OSError as error:
                pause = self._outages.failed(self._name, error)
            else:
                code = await self._ended(process, stop)
                self._process = None
                died = WorkerProcessDiedError(self._name, code)
                if stop.is_set():
                    break
                pause = self._outages.failed(self._name, died)
            if await wait_at_most(stop, pause):
                return
        if code not in _STOPPED:
            raise died

    async def _ended(self, process: asyncio.subprocess.Process, stop: asyncio.Event) -> int:
        """Starts the work of the process, and returns its exit code when it has ended."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(
            lambda task: None if task.cancelled() else self._order_to_stop(process)
        )
        settled = asyncio.get_running_loop().call_later(
            _SETTLED_SECONDS, self._outages.over, self._name
        )
        self.wake()
        try:
            return await process.wait()
        except asyncio.CancelledError:
            logger.warning("a process goes on, and is killed", process=self._name)
            _signal(process, signal.SIGKILL)
            raise
        finally:
            settled.cancel()
            stopping.cancel()

    async def _start(self) -> asyncio.subprocess.Process:
        self._close_orders()
        orders, theirs = socket.socketpair()
        # if the socket is full, enough orders are waiting
        orders.settimeout(0)
        self._orders = orders
        with theirs, _inherited_block_of(_TERMINAL_SIGNALS):
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=theirs.fileno()
            )
        return self._process

    def _send_order(self, order: bytes) -> None:
        # a process that is ending, or was suspended for long, reads no orders
        with suppress(OSError):
            if self._orders:
                self._orders.send(order)

    def _order_to_stop(self, process: asyncio.subprocess.Process) -> None:
        self._send_order(_STOP)
        # ends a process that still imports and has no work; one that takes orders ignores it
        _signal(process, signal.SIGTERM)

    def _close_orders(self) -> None:
        if self._orders:
            self._orders.close()
            self._orders = None

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close_orders()
        if self._process:
            _signal(self._process, signal.SIGKILL)
            await self._process.wait()


def python_command(module: str, *arguments: str) -> list[str]:
    """Returns the command that runs `python -m module` with this interpreter.

    It finds no modules in the current folder, which may hold any.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


async def follow_orders(stop: asyncio.Event, woken: asyncio.Event) -> None:
    """Takes the orders of a `WorkerProcess` from standard input; returns with the first one.

    Sets `woken` with each order, and `stop` with the order to stop. From now on, this process ends
    at once when its parent has ended for any reason. It ignores stop signals, which the parent
    handles, because a terminal sends them to the whole group.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TERMINAL_SIGNALS)

    def read() -> None:
        order = b""
        with suppress(ConnectionError):
            order = os.read(_STANDARD_INPUT, 1)
        if not order:
            os._exit(1)
        if order == _STOP:
            stop.set()
        woken.set()

    asyncio.get_running_loop().add_reader(_STANDARD_INPUT, read)
    await woken.wait()


@contextmanager
def _inherited_block_of(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Lets processes that are started inside begin without these signals.

    A terminal sends them to the whole group, and Python ends with 1 if SIGINT arrives before its
    first line of code. This process gets them a moment later.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        # not the mask from before: of two that overlap, the second began with the signals blocked
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # Not by the process's own method, which checks whether it has ended and takes the exit code
    # away from the thread that waits for it.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
