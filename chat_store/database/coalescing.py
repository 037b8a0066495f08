"""Groups small calls that arrive while another one is at the database."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from chat_store.errors import StoreUnavailableError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# so that a group ends within milliseconds and the next one does not wait long
MAX_GROUP = 100
MAX_SMALL = 10
"""Calls with more records than this go to the database by themselves."""


@dataclass(frozen=True, slots=True)
class _Call(Generic[_Item, _Result]):
    item: _Item
    result: "asyncio.Future[_Result]"


class Coalescer(Generic[_Item, _Result]):
    """Passes the first item to `work` at once, and all that arrive meanwhile as the next group.

    A single caller waits for nothing. Up to `MAX_GROUP` callers share a statement and a commit,
    and each call returns only when its group is committed. `work` returns a result for each item,
    in order.

    The items of a group have the same `scope_of` and no `keys_of` in common: calls that write the
    same record are in different groups, in order of arrival. If `work` raises, each item of the
    group is tried by itself, because another one may be the cause; an unavailable database fails
    them all.
    """

    def __init__(
        self,
        work: Callable[[Sequence[_Item]], Awaitable[Sequence[_Result]]],
        *,
        scope_of: Callable[[_Item], Hashable] = lambda _: None,
        keys_of: Callable[[_Item], Collection[Hashable]] = lambda _: (),
    ) -> None:
        self._work = work
        self._scope_of = scope_of
        self._keys_of = keys_of
        self._waiting: deque[_Call[_Item, _Result]] = deque()
        self._group: Sequence[_Call[_Item, _Result]] = ()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: _Item) -> _Result:
        call: _Call[_Item, _Result] = _Call(item, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._task is None:
            self._begin_next()
        try:
            return await call.result
        except asyncio.CancelledError:
            # a statement is cancelled when the last of its callers is
            if self._task and all(other.result.cancelled() for other in self._group):
                self._task.cancel()
            raise

    def _begin_next(self, _ended: "asyncio.Task[None] | None" = None) -> None:
        self._group = self._next_group()
        if not self._group:
            self._task = None
            return
        # an empty context, not that of the group's first call with its request id and deadline
        self._task = asyncio.create_task(self._answer(self._group), context=Context())
        self._task.add_done_callback(self._begin_next)

    def _next_group(self) -> Sequence[_Call[_Item, _Result]]:
        group: list[_Call[_Item, _Result]] = []
        taken: set[Hashable] = set()
        while self._waiting and len(group) < MAX_GROUP:
            call = self._waiting[0]
            keys = self._keys_of(call.item)
            if group and not (
                self._scope_of(call.item) == self._scope_of(group[0].item)
                and taken.isdisjoint(keys)
            ):
                break
            self._waiting.popleft()
            if not call.result.done():
                group.append(call)
                taken.update(keys)
        return group

    async def _answer(self, group: Sequence[_Call[_Item, _Result]]) -> None:
        try:
            results = await self._work([call.item for call in group])
        except asyncio.CancelledError:
            for call in group:
                call.result.cancel()
            raise
        except Exception as error:  # noqa: BLE001  it is raised where it was called for
            if len(group) == 1 or isinstance(error, StoreUnavailableError):
                _fail(group, error)
            else:
                await self._answer_each(group)
        else:
            for call, result in zip(group, results, strict=True):
                if not call.result.done():
                    call.result.set_result(result)

    async def _answer_each(self, group: Sequence[_Call[_Item, _Result]]) -> None:
        for call in group:
            if not call.result.done():
                await self._answer([call])


def _fail(group: Iterable[_Call[Any, Any]], error: Exception) -> None:
    for call in group:
        if not call.result.done():
            call.result.set_exception(error)
