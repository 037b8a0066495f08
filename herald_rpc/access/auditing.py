"""Audits the calls of a server: their changes, and those that are refused."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from time import monotonic
from urllib.parse import unquote

from chat_store.audit.callers import Caller, calling
from chat_store.audit.entries import Refusal
from chat_store.audit.store import AuditChain
from chat_store.errors import StoreUnavailableError
from herald_rpc.process.outages import RepeatingWorker
from herald_rpc.server.principals import Principal

_CHAIN_SECONDS = 0.5
_CUT_SECONDS = 60.0
_REFUSALS_A_SECOND = 10
# principals and hosts with a limit of their own; more of them share one
_MOST_LIMITS = 100
# while the database is away; more are lost
_MOST_WAITING = 10_000


class CallAuditor(RepeatingWorker):
    """See `herald_rpc.server.guarding.CallAudit`.

    While it runs, it writes the rows of refused calls, chains all rows that were committed, and
    deletes rows that are older than the retention. Several of these may run.
    """

    def __init__(
        self,
        chain: AuditChain,
        now: Callable[[], datetime],
        retention: timedelta | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__("the audit log", StoreUnavailableError)
        self._chain = chain
        self._now = now
        self._retention = retention
        self._limits = _Limits(clock)
        self._refusals: deque[Refusal] = deque()
        self._cut_at = 0.0

    def calling(
        self, principal: Principal, method: str, request_id: str, peer: str
    ) -> AbstractContextManager[None]:
        return calling(_caller(principal, method, request_id, peer))

    def refused(
        self, principal: Principal, method: str, request_id: str, peer: str, reason: str
    ) -> None:
        """Notes at most 10 refused calls a second of each principal.

        Callers without a valid token have a limit for each host.
        """
        limited = principal.id or f"from {unquote(peer).rpartition(':')[0]}"
        if len(self._refusals) < _MOST_WAITING and self._limits.allow(limited):
            caller = _caller(principal, method, request_id, peer)
            self._refusals.append(Refusal(caller, reason, self._now()))

    async def run(self, stop: asyncio.Event) -> None:
        await super().run(stop)
        # rows that are not chained now are chained by the next server
        try:
            await self.run_once()
        except Exception as error:  # noqa: BLE001  as in the steps before
            self._outages.failed(self._name, error)

    async def step(self) -> float:
        await self.run_once()
        return _CHAIN_SECONDS

    async def run_once(self) -> None:
        """Writes and chains the rows of now, and once a minute deletes old ones."""
        if refusals := list(self._refusals):
            await self._chain.add_refusals(refusals)
            for _ in refusals:
                self._refusals.popleft()
        await self._chain.grow()
        if self._retention and monotonic() >= self._cut_at:
            more = await self._chain.cut(self._now() - self._retention)
            self._cut_at = monotonic() + (0.0 if more else _CUT_SECONDS)


class _Limits:
    """Allows 10 events a second of each key, and of all keys beyond the first 100 together."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._latest: dict[str, deque[float]] = {}

    def allow(self, key: str) -> bool:
        now = self._clock()
        if key not in self._latest and len(self._latest) >= _MOST_LIMITS:
            self._latest = {
                key: times for key, times in self._latest.items() if now - times[-1] < 1.0
            }
            if len(self._latest) >= _MOST_LIMITS:
                key = ""
        times = self._latest.setdefault(key, deque(maxlen=_REFUSALS_A_SECOND))
        if len(times) == _REFUSALS_A_SECOND and now - times[0] < 1.0:
            return False
        times.append(now)
        return True


def _caller(principal: Principal, method: str, request_id: str, peer: str) -> Caller:
    return Caller(
        principal_id=principal.id,
        principal_name=principal.name,
        method=method.removeprefix("/"),
        request_id=request_id,
        # NUL begins the name of an abstract socket, and PostgreSQL can't store it
        peer=unquote(peer).replace("\0", "@"),
    )
