"""Work in processes of their own, where it holds up nobody else, and which end with this one."""

import asyncio
import multiprocessing
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self
from weakref import WeakSet

import structlog

logger = structlog.get_logger(__name__)

Work = Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]

_NUDGE, _STOP = b"n", b"s"

_processes = multiprocessing.get_context("fork")
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
    other one.
    """

    def __init__(self, name: str, work: Work) -> None:
        self._name = name
        self._orders, theirs = socket.socketpair()
        _order_lines.add(self._orders)
        self._process = _processes.Process(
            target=_obey, args=(theirs, work), name=name, daemon=True
        )
        self._process.start()
        theirs.close()
        # an order that finds no room is one too many
        self._orders.settimeout(0)

    def nudge(self) -> None:
        """Sets `nudged` over there."""
        self._order(_NUDGE)

    async def run(self, stop: asyncio.Event) -> None:
        """Returns when the work has: `stop` over there is set when this one is.

        Cancelled, it kills the process, also one that is stopped or stuck. Raises `ForkDiedError` when the process ends before, or with a failure.
        """
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, ended.set)
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._order(_STOP))
        self.nudge()
        try:
            await ended.wait()
        except asyncio.CancelledError:
            logger.warning("a process goes on, and is killed", process=self._name)
            self._process.kill()
            raise
        finally:
            loop.remove_reader(self._process.sentinel)
            stopping.cancel()
        self._process.join()
        if self._process.exitcode or not stop.is_set():
            raise ForkDiedError(self._name, self._process.exitcode)

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
