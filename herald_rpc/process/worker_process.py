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

_NUDGE, _STOP = b"n", b"s"
# a process that has lived for so long works
_SETTLED_SECONDS = 5.0

_copies = multiprocessing.get_context("fork")
# a copy of a process with threads may never run: those that come later begin from nothing
_replacements = multiprocessing.get_context("spawn")
# The ends from which this process gives its orders. A copy must keep none of them open: as long as
# one does, the process at the other end does not notice that this one is gone.
_order_lines: WeakSet[socket.socket] = WeakSet()


class ForkDiedError(Exception):
    """A process ended before it was told to."""

    def __init__(self, name: str, code: int | None) -> None:
        super().__init__(f"{name} has ended with {code}")


class Fork:
    """Runs `work(stop, nudged)` on an event loop in a copy of this process.

    To be made before this process has threads, connections or an event loop, of which a copy is
    of no use. The work begins with `run`. When this process is gone, however it ended, so is the
    other one. One that ends before it was told to is replaced by a new process, which has nothing
    but the work, pickled, and sets up its logs by itself.
    """

    def __init__(self, name: str, work: Work) -> None:
        self._name = name
        self._work = work
        self._outages = Outages(ForkDiedError)
        self._orders, theirs = socket.socketpair()
        _order_lines.add(self._orders)
        self._process: BaseProcess = _copies.Process(
            target=_obey, args=(theirs, work), name=name, daemon=True
        )
        self._begin(theirs)

    @property
    def is_well(self) -> bool:
        """Whether the process has not died within the last seconds."""
        return not self._outages

    def nudge(self) -> None:
        """Sets `nudged` over there."""
        self._order(_NUDGE)

    async def run(self, stop: asyncio.Event) -> None:
        """Returns when the work has: `stop` over there is set when this one is.

        Cancelled, it kills the process, also one that is stopped or stuck. Raises `ForkDiedError`
        when the process fails after `stop` is set.
        """
        while True:
            await self._ended(stop)
            died = ForkDiedError(self._name, self._process.exitcode)
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
        stopping.add_done_callback(lambda _: self._order(_STOP))
        self.nudge()
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
        self._orders.close()
        self._orders, theirs = socket.socketpair()
        _order_lines.add(self._orders)
        args = (theirs, self._work)
        self._process = _replacements.Process(target=_obey, args=args, name=self._name, daemon=True)
        self._begin(theirs)

    def _begin(self, theirs: socket.socket) -> None:
        self._process.start()
        theirs.close()
        # an order that finds no room is one too many
        self._orders.settimeout(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process at once, if it has not ended."""
        self._orders.close()
        self._process.kill()
        self._process.join()

    def _order(self, order: bytes) -> None:
        # one that is about to end, or was paused for long, takes none
        with suppress(OSError):
            self._orders.send(order)


def _obey(orders: socket.socket, work: Work) -> None:
    for line in _order_lines:
        line.close()
    # a stop signal is for the process that gives the orders, even where all of a group get it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.run(_obeying(orders, work))


async def _obeying(orders: socket.socket, work: Work) -> None:
    stop, nudged = asyncio.Event(), asyncio.Event()

    def read() -> None:
        order = orders.recv(1)
        if order == _STOP:
            stop.set()
        elif order != _NUDGE:
            os._exit(1)
        nudged.set()

    asyncio.get_running_loop().add_reader(orders, read)
    await nudged.wait()
    await work(stop, nudged)
