"""The calls in progress of a server: how they are waited for, and why some are cut."""

import asyncio
from collections import defaultdict
from collections.abc import Collection
from functools import partial
from typing import Any

import grpc

from herald_rpc.server.failures import Failure, FailureFor
from herald_rpc.server.guarding import RefusedError
from herald_rpc.server.principals import Principal

REASON_UNAVAILABLE = "ERROR_REASON_UNAVAILABLE"

_STOPPING = Failure(
    code=grpc.StatusCode.UNAVAILABLE,
    reason=REASON_UNAVAILABLE,
    message="the server is shutting down, and its grace for calls in progress is over",
)


class ActiveCalls:
    """The calls in progress of a server, and the state that they share."""

    def __init__(self, failure_for: FailureFor, stalled_seconds: float) -> None:
        self.failure_for = failure_for
        self.stalled_seconds = stalled_seconds
        self.impaired = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._cancelled: dict[asyncio.Task[Any], Failure] = {}
        self._streams: defaultdict[str, set[asyncio.Task[Any]]] = defaultdict(set)

    def add(self, task: asyncio.Task[Any]) -> None:
        """Keeps the call's task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self, most_seconds: float) -> set[asyncio.Task[Any]]:
        """Waits for all tasks. Returns those that still run after the time."""
        if not self._tasks:
            return set()
        _, running = await asyncio.wait(self._tasks, timeout=most_seconds)
        return running

    def cancel_all(self) -> None:
        self._cancel(set(self._tasks), _STOPPING)

    def add_stream(self, principal: Principal) -> None:
        """Has `cut` end the current task, until it is done."""
        task = asyncio.current_task()
        if task:
            self._streams[principal.id].add(task)
            task.add_done_callback(partial(self._remove_stream, principal))

    def principals(self) -> Collection[str]:
        return self._streams.keys()

    def cut(self, principal_id: str, error: RefusedError) -> None:
        self._cancel(set(self._streams.get(principal_id, ())), error.failure)

    def why_cancelled(self, task: asyncio.Task[Any] | None) -> Failure | None:
        """Returns what to answer for a cancelled task; None if its caller has cancelled it."""
        return self._cancelled.get(task) if task else None

    def _cancel(self, tasks: set[asyncio.Task[Any]], failure: Failure) -> None:
        for task in tasks - self._cancelled.keys():
            self._cancelled[task] = failure
            task.add_done_callback(self._forget)
            task.cancel()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._cancelled.pop(task, None)

    def _remove_stream(self, principal: Principal, task: asyncio.Task[Any]) -> None:
        streams = self._streams[principal.id]
        streams.discard(task)
        if not streams:
            del self._streams[principal.id]
