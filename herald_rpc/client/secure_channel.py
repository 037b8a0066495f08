"""A channel with TLS and a token. gRPC's own can't take new certificates."""

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Self

import grpc

from herald_rpc.certificates import Certificates, CertificateWatch

AUTHORIZATION = "authorization"
"""The metadata key of a token, as `Bearer herald_…`."""

_CHECK_SECONDS = 1.0

_Open = Callable[[Certificates | None], grpc.aio.Channel]


class _Generation:
    """A channel with the certificates of a time, and how many of its calls are in progress."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._calls = 0
        self._on_idle: Callable[[], None] | None = None

    def add(self, call: Any) -> None:
        self._calls += 1
        call.add_done_callback(self._ended)

    def when_idle(self, action: Callable[[], None]) -> None:
        """Calls the action once no call is in progress; there are no new ones from now on."""
        self._on_idle = action
        self._check()

    def _ended(self, _call: object) -> None:
        self._calls -= 1
        self._check()

    def _check(self) -> None:
        if self._on_idle and not self._calls:
            self._on_idle()
            self._on_idle = None


# Generic in one set of type stubs, but not at run time.
class SecureChannel(grpc.aio.Channel):  # type: ignore[misc,unused-ignore]
    """Opens a new channel when the certificates change. Calls in progress end in the old one.

    The files are looked at with a call, at most once a second. A token goes with every call.
    """

    def __init__(self, open_channel: _Open, watch: CertificateWatch | None, token: str) -> None:
        self._open = open_channel
        self._watch = watch
        self._checked_at = monotonic()
        self._version = watch.generation if watch else 0
        self._metadata = ((AUTHORIZATION, f"Bearer {token}"),) if token else ()
        self._retired: set[_Generation] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._generation = _Generation(open_channel(watch.certificates if watch else None))

    def current(self) -> _Generation:
        """Returns the channel for the next call."""
        if self._watch and monotonic() - self._checked_at >= _CHECK_SECONDS:
            self._checked_at = monotonic()
            self._watch.refresh()
            if self._watch.generation != self._version:
                self._version = self._watch.generation
                before = self._generation
                self._generation = _Generation(self._open(self._watch.certificates))
                self._retired.add(before)
                before.when_idle(partial(self._close_retired, before))
        return self._generation

    def _close_retired(self, generation: _Generation) -> None:
        self._retired.discard(generation)
        closing = asyncio.get_running_loop().create_task(generation.channel.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _SecureCall(self, "unary_unary", args, kwargs, self._metadata)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _SecureCall(self, "unary_stream", args, kwargs, self._metadata)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _SecureCall(self, "stream_unary", args, kwargs, self._metadata)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _SecureCall(self, "stream_stream", args, kwargs, self._metadata)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002  gRPC's name and default
        return self.current().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        # a channel that is replaced changes its state when it is closed
        await self._generation.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current().channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        channels = [generation.channel for generation in (self._generation, *self._retired)]
        await asyncio.gather(*(channel.close(grace) for channel in channels), *self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _SecureCall:
    """A method of the channel that is current when it is called."""

    def __init__(
        self,
        secure: SecureChannel,
        kind: str,
        args: Any,
        kwargs: Any,
        metadata: tuple[tuple[str, str], ...],
    ) -> None:
        self._secure = secure
        self._kind = kind
        self._args = args
        self._kwargs = kwargs
        self._metadata = metadata
        self._made: tuple[_Generation, Any] | None = None

    def __call__(self, *args: Any, metadata: Any = None, **kwargs: Any) -> Any:
        generation = self._secure.current()
        if self._made is None or self._made[0] is not generation:
            method = getattr(generation.channel, self._kind)(*self._args, **self._kwargs)
            self._made = generation, method
        given = (*(metadata or ()), *self._metadata)
        call = self._made[1](*args, metadata=given, **kwargs)
        generation.add(call)
        return call
