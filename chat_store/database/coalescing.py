"""Small calls that come while another one is at the database go there together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from chat_store.errors import StoreUnavailableError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# so that a group is over within milliseconds, and nobody waits long behind it
MAX_GROUP = 100
MAX_SMALL = 10
"""A call with more records than this goes to the database by itself."""


@dataclass(frozen=True, slots=True)
class _Call(Generic[_Item, _Result]):
    item: _Item
    result: "asyncio.Future[_Result]"


class Coalescer(Generic[_Item, _Result]):
    """Hands items to `work`: one at once, and all that come meanwhile as the next group.

    A caller alone waits for nothing. With many callers, a statement and a commit are shared by up
    to `MAX_GROUP` of them, and a call has returned only when its group is committed. `work`
    returns a result for each item, in order.

    The items of a group have the same `scope_of`, and none of their `keys_of` in common: calls
    that write the same record are in different groups, in the order in which they came. When
    `work` raises, each item of its group is tried by itself, because another one may be the cause;
    an unavailable database fails them all.
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
            # a statement ends with the last of its callers
            if self._task and all(other.result.cancelled() for other in self._group):
                self._task.cancel()
            raise

    def _begin_next(self, _ended: "asyncio.Task[None] | None" = None) -> None:
        self._group = self._next_group()
        if not self._group:
            self._task = None
            return
        # without the context of the call that happens to come first: its request id, its deadline
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
