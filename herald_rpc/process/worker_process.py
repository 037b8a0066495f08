"""Work in processes of their own, where it holds up nobody else, and which end with this one."""

import asyncio
import multiprocessing
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Self
from weakref import WeakSet

import structlog

from herald_rpc.process.outages import Outages, passed

logger = structlog.get_logger(__name__)

Work = Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]

_WAKE, _STOP = b"n", b"s"
# a process that has lived for so long works
_SETTLED_SECONDS = 5.0

_copies = multiprocessing.get_context("fork")
# a copy of a process with threads may never run: those that come later begin from nothing
_replacements = multiprocessing.get_context("spawn")
# The ends from which this process gives its orders. A copy must keep none of them open: as long as
# one does, the process at the other end does not notice that this one is gone.
_order_lines: WeakSet[socket.socket] = WeakSet()


class WorkerProcessDiedError(Exception):
    """A process ended before it was told to."""

    def __init__(self, name: str, code: int | None) -> None:
        super().__init__(f"{name} has ended with {code}")


class WorkerProcess:
    """Runs `work(stop, woken)` on an event loop in a copy of this process.

    To be made before this process has threads, connections or an event loop, of which a copy is
    of no use. The work begins with `run`. When this process is gone, however it ended, so is the
    other one. One that ends before it was told to is replaced by a new process, which has nothing
    but the work, pickled, and sets up its logs by itself.
    """

    def __init__(self, name: str, work: Work) -> None:
        self._name = name
        self._work = work
        self._outages = Outages(WorkerProcessDiedError)
        self._commands, theirs = socket.socketpair()
        _order_lines.add(self._commands)
        self._process: BaseProcess = _copies.Process(
            target=_child_main, args=(theirs, work), name=name, daemon=True
        )
        self._begin(theirs)

    @property
    def is_well(self) -> bool:
        """Whether the process has not died within the last seconds."""
        return not self._outages

    def wake(self) -> None:
        """Sets `woken` over there."""
        self._send_command(_WAKE)

    async def run(self, stop: asyncio.Event) -> None:
        """Returns when the work has: `stop` over there is set when this one is.

        Cancelled, it kills the process, also one that is stopped or stuck. Raises `WorkerProcessDiedError`
        when the process fails after `stop` is set.
        """
        while True:
            await self._ended(stop)
            died = WorkerProcessDiedError(self._name, self._process.exitcode)
            if stop.is_set():
                break
            await passed(stop, self._outages.failed(self._name, died))
            if stop.is_set():
                return
            self._replace()
        if self._process.exitcode:
            raise died

    async def _ended(self, stop: asyncio.Event) -> None:
        """Lets the process work, and returns when it has ended."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, ended.set)
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._send_command(_STOP))
        self.wake()
        try:
            await passed(ended, _SETTLED_SECONDS)
            if not ended.is_set():
                self._outages.over(self._name)
            await ended.wait()
        except asyncio.CancelledError:
            logger.warning("a process goes on, and is killed", process=self._name)
            self._process.kill()
            raise
        finally:
            loop.remove_reader(self._process.sentinel)
            stopping.cancel()
        self._process.join()

    def _replace(self) -> None:
        self._commands.close()
        self._commands, theirs = socket.socketpair()
        _order_lines.add(self._commands)
        args = (theirs, self._work)
        self._process = _replacements.Process(
            target=_child_main, args=args, name=self._name, daemon=True
        )
        self._begin(theirs)

    def _begin(self, theirs: socket.socket) -> None:
        self._process.start()
        theirs.close()
        # an order that finds no room is one too many
        self._commands.settimeout(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process at once, if it has not ended."""
        self._commands.close()
        self._process.kill()
        self._process.join()

    def _send_command(self, command: bytes) -> None:
        # one that is about to end, or was paused for long, takes none
        with suppress(OSError):
            self._commands.send(command)


def _child_main(commands: socket.socket, work: Work) -> None:
    for line in _order_lines:
        line.close()
    # a stop signal is for the process that gives the orders, even where all of a group get it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.run(_handle_commands(commands, work))


async def _handle_commands(commands: socket.socket, work: Work) -> None:
    stop, woken = asyncio.Event(), asyncio.Event()

    def read() -> None:
        command = commands.recv(1)
        if command == _STOP:
            stop.set()
        elif command != _WAKE:
            os._exit(1)
        woken.set()

    asyncio.get_running_loop().add_reader(commands, read)
    await woken.wait()
    await work(stop, woken)
