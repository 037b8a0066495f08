"""A channel with TLS and a token. gRPC's own can't take new certificates."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Self

import grpc

from herald_rpc.certificates import Certificates, CertificateWatch

AUTHORIZATION = "authorization"
"""The metadata key of a token, as `Bearer herald_…`."""

_CHECK_SECONDS = 1.0
# until the last call of a channel that was replaced; gRPC wants a number
_UNLIMITED_SECONDS = 10 * 365 * 86_400.0

_Open = Callable[[Certificates | None], grpc.aio.Channel]


# Generic in one set of type stubs, but not at run time.
class SecureChannel(grpc.aio.Channel):  # type: ignore[misc,unused-ignore]
    """Opens a new channel when the certificates change. Calls in progress end in the old one.

    The files are looked at with a call, at most once a second. A token goes with every call.
    """

    def __init__(self, open_channel: _Open, watch: CertificateWatch | None, token: str) -> None:
        self._open = open_channel
        self._watch = watch
        self._checked_at = monotonic()
        self._generation = watch.generation if watch else 0
        self._metadata = ((AUTHORIZATION, f"Bearer {token}"),) if token else ()
        self._retired: set[asyncio.Task[None]] = set()
        self._channel = open_channel(watch.certificates if watch else None)

    def current(self) -> grpc.aio.Channel:
        """Returns the channel for the next call."""
        if self._watch and monotonic() - self._checked_at >= _CHECK_SECONDS:
            self._checked_at = monotonic()
            self._watch.refresh()
            if self._watch.generation != self._generation:
                self._generation = self._watch.generation
                self._retire(self._channel)
                self._channel = self._open(self._watch.certificates)
        return self._channel

    def _retire(self, channel: grpc.aio.Channel) -> None:
        closing = asyncio.create_task(channel.close(_UNLIMITED_SECONDS))
        self._retired.add(closing)
        closing.add_done_callback(self._retired.discard)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _SecureCall(self, "unary_unary", args, kwargs, self._metadata)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _SecureCall(self, "unary_stream", args, kwargs, self._metadata)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _SecureCall(self, "stream_unary", args, kwargs, self._metadata)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _SecureCall(self, "stream_stream", args, kwargs, self._metadata)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002  gRPC's name and default
        return self.current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        # a channel that is replaced changes its state when it is closed
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current().channel_ready()

    async def close(self, grace: float | None = None) -> None:
        for closing in self._retired:
            closing.cancel()
        await self._channel.close(grace)

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
        self._made: tuple[grpc.aio.Channel, Any] | None = None

    def __call__(self, *args: Any, metadata: Any = None, **kwargs: Any) -> Any:
        channel = self._secure.current()
        if self._made is None or self._made[0] is not channel:
            self._made = channel, getattr(channel, self._kind)(*self._args, **self._kwargs)
        return self._made[1](*args, metadata=(*(metadata or ()), *self._metadata), **kwargs)
