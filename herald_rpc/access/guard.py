"""Checks the token of each call, and ends the streams of tokens that are not valid any more."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from time import monotonic

import structlog

from chat_store.access.scopes import Scope
from chat_store.access.store import TokenStore
from chat_store.access.tokens import Token, id_in
from chat_store.database.coalescing import Coalescer
from chat_store.errors import StoreUnavailableError
from herald_rpc.access.permissions import PERMISSIONS
from herald_rpc.access.rates import Allowance, CallRate
from herald_rpc.access.refusals import (
    rate_limit_exceeded,
    scope_missing,
    token_expired,
    token_invalid,
    token_missing,
    token_revoked,
)
from herald_rpc.client.secure_channel import AUTHORIZATION
from herald_rpc.process.outages import RepeatingWorker
from herald_rpc.server.admission import OverloadedError
from herald_rpc.server.guarding import NOT_LIMITED, Counted, OpenStreams, RefusedError
from herald_rpc.server.principals import Principal

# A revocation takes effect within 5 s: tokens in use are read again every second, and one that
# could not be read for longer is looked up before its next call.
_READ_SECONDS = 1.0
_FRESH_SECONDS = 3.5
# how long after its last call a token is still read again
_KEPT_SECONDS = 60.0
# calls that may wait for tokens that are not known yet; each takes about 12 KiB
_MAX_WAITING = 1_000
_REFLECTION = "/grpc.reflection."
_SCHEME = "bearer "
_MINUTE = timedelta(minutes=1)

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Known:
    token: Token
    principal: Principal
    read_at: float
    used_at: float
    rate: CallRate | None


class TokenGuard(RepeatingWorker):
    """See `herald_rpc.server.guarding.Guard`; keeps what it has read of the tokens in use.

    Reads them again every second while it runs. Without the database, known tokens are good for a
    few seconds; calls are then refused with the store's error, and streams go on.
    """

    def __init__(
        self,
        store: TokenStore,
        now: Callable[[], datetime],
        permissions: Mapping[str, Scope] = PERMISSIONS,
        calls_per_second: int | None = None,
    ) -> None:
        """`calls_per_second` are those of each token; None: any number."""
        super().__init__("the check of tokens", StoreUnavailableError)
        self._store = store
        self._now = now
        self._permissions = permissions
        self._calls_per_second = calls_per_second
        self._known: dict[str, _Known] = {}
        self._used: set[str] = set()
        self._waiting = 0
        self._lookups = Coalescer(self._look_up)
        self._streams: OpenStreams | None = None

    def follow(self, streams: OpenStreams) -> None:
        self._streams = streams

    async def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Principal:
        text = _token_text(metadata)
        known = await self._find(text)
        # first of all, because an id alone is no secret
        if known is None or not known.token.fits(text):
            raise token_invalid()
        now = self._now()
        if refusal := _refusal(known.token, now):
            raise refusal
        known.used_at = monotonic()
        # the stored time is the beginning of a minute
        last_used_at = known.token.last_used_at
        if last_used_at is None or now - last_used_at >= _MINUTE:
            self._used.add(known.token.id)
        return known.principal

    def count(self, principal: Principal) -> Counted:
        known = self._known.get(principal.id)
        if known is None or known.rate is None:
            return NOT_LIMITED
        allowance = known.rate.take(monotonic())
        trailers = self._trailers(allowance)
        if not allowance.retry_seconds:
            return Counted(trailers)
        if not known.rate.has_warned:
            known.rate.has_warned = True
            logger.warning(
                "a token has reached its limit", token_id=principal.id, limit=allowance.limit
            )
        return Counted(trailers, rate_limit_exceeded(principal, allowance))

    def _trailers(self, allowance: Allowance) -> tuple[tuple[str, str], ...]:
        full_at = ceil(self._now().timestamp() + allowance.full_seconds)
        return (
            ("x-ratelimit-limit", str(allowance.limit)),
            ("x-ratelimit-remaining", str(allowance.remaining)),
            ("x-ratelimit-reset", str(full_at)),
        )

    def authorize(self, principal: Principal, method: str) -> None:
        if method.startswith(_REFLECTION):
            return
        scope = self._permissions.get(method)
        if scope is None or not principal.has(scope):
            raise scope_missing(principal, scope or "")

    async def step(self) -> float:
        await self.run_once()
        return _READ_SECONDS

    async def run_once(self) -> None:
        """Reads the tokens in use again, cuts streams, and writes when tokens were used."""
        # at once, because it needs no database
        self._cut_streams()
        await self._read_again()
        self._cut_streams()
        used, self._used = self._used, set()
        if used:
            await self._store.note_used(used, self._now().replace(second=0, microsecond=0))

    async def _read_again(self) -> None:
        streaming = self._streams.principals() if self._streams else ()
        oldest = monotonic() - _KEPT_SECONDS
        for token_id, known in list(self._known.items()):
            if known.used_at < oldest and token_id not in streaming:
                del self._known[token_id]
        if not self._known:
            return
        asked = list(self._known)
        began = monotonic()
        found = await self._store.by_id(asked)
        for token_id in asked:
            self._keep(token_id, found.get(token_id), began)

    def _cut_streams(self) -> None:
        for token_id in list(self._streams.principals()) if self._streams else ():
            known = self._known.get(token_id)
            refusal = _refusal(known.token, self._now()) if known else token_invalid()
            if refusal and self._streams:
                self._streams.cut(token_id, refusal)

    async def _find(self, text: str) -> _Known | None:
        token_id = id_in(text)
        if token_id is None:
            return None
        known = self._known.get(token_id)
        if known is not None and monotonic() - known.read_at < _FRESH_SECONDS:
            return known
        if self._waiting >= _MAX_WAITING:
            raise OverloadedError
        self._waiting += 1
        try:
            return await self._lookups.submit(token_id)
        finally:
            self._waiting -= 1

    async def _look_up(self, ids: Sequence[str]) -> Sequence[_Known | None]:
        began = monotonic()
        found = await self._store.by_id(set(ids))
        return [self._keep(token_id, found.get(token_id), began) for token_id in ids]

    def _keep(self, token_id: str, token: Token | None, read_at: float) -> _Known | None:
        known = self._known.get(token_id)
        if token is None:
            self._known.pop(token_id, None)
            return None
        if known is None:
            rate = CallRate(limit, monotonic()) if (limit := self._calls_per_second) else None
            known = _Known(token, _principal(token), read_at, used_at=read_at, rate=rate)
            self._known[token_id] = known
        elif read_at >= known.read_at:
            # an earlier read that took longer would bring a revoked token back
            known.token, known.principal, known.read_at = token, _principal(token), read_at
        return known


def _refusal(token: Token, now: datetime) -> RefusedError | None:
    if token.revoked_at is not None:
        return token_revoked(token)
    return token_expired(token) if token.is_expired_at(now) else None


def _principal(token: Token) -> Principal:
    senders: Collection[str] = token.sender_ids
    return Principal(
        token.id, token.name, frozenset(token.granted), frozenset(senders) if senders else None
    )


def _token_text(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    values = [value for key, value in metadata if key == AUTHORIZATION]
    if not values:
        raise token_missing()
    (value, *more) = values
    if more or not isinstance(value, str) or not value.lower().startswith(_SCHEME):
        raise token_invalid()
    return value[len(_SCHEME) :].strip()
