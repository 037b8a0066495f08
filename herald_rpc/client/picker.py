"""Picks the channel of each call where several lead to the same service."""

import asyncio
from collections.abc import Callable, Container, Iterable
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import grpc

from herald_rpc import tracing

_STATES = grpc.ChannelConnectivity
_FAILED = {_STATES.TRANSIENT_FAILURE, _STATES.SHUTDOWN}

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

if TYPE_CHECKING:  # at run time the class takes no types
    _Method = Callable[[grpc.aio.Channel], grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]]


class ChannelPicker:
    """Picks ready channels in turn, as gRPC does with the addresses of one channel."""

    def __init__(self, channels: Iterable[grpc.aio.Channel]) -> None:
        # the one that waits longest for a call comes first
        self._channels = list(channels)

    async def pick(
        self, within_seconds: float, tried: Container[grpc.aio.Channel] = ()
    ) -> grpc.aio.Channel:
        """Returns the next channel that is ready and was not tried.

        If there is none, waits until there is, or no other channel connects any more, or the time
        has passed. Then it returns one that is ready, or still connects, if there is one.
        """
        deadline = monotonic() + within_seconds
        while len(self._channels) > 1:
            states = {each: each.get_state(try_to_connect=True) for each in self._channels}
            ready = [each for each, state in states.items() if state is _STATES.READY]
            usable = [each for each, state in states.items() if state not in _FAILED]
            untried_ready = [each for each in ready if each not in tried]
            untried_usable = [each for each in usable if each not in tried]
            seconds = deadline - monotonic()
            if untried_ready or not untried_usable or seconds <= 0:
                best = untried_ready or ready or untried_usable or usable or self._channels
                return self._used(best[0])
            await _first_change(states, seconds)
        # gRPC lets a call wait for its channel
        return self._channels[0]

    async def call(
        self,
        method: "_Method[_Request, _Response]",
        request: _Request,
        seconds: float,
        attempts: int = 1,
    ) -> _Response:
        """Makes a call that may be repeated: the next attempt follows when one times out.

        Each attempt has its share of the time, on a channel that was not tried if there is one.
        Raises the `AioRpcError` of the last attempt, or of the first that ends before its time-out.
        """
        tried: list[grpc.aio.Channel] = []
        for _ in range(attempts - 1):
            try:
                return await self._attempt(method, request, seconds / attempts, tried)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise
        return await self._attempt(method, request, seconds / attempts, tried)

    async def _attempt(
        self,
        method: "_Method[_Request, _Response]",
        request: _Request,
        seconds: float,
        tried: list[grpc.aio.Channel],
    ) -> _Response:
        """Makes the call, and once more if its channel loses the server.

        A channel that is the only one repeats calls by itself.
        """
        deadline = monotonic() + seconds
        try:
            return await self._call_once(method, request, deadline, tried)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or len(self._channels) == 1:
                raise
        return await self._call_once(method, request, deadline, tried)

    async def _call_once(
        self,
        method: "_Method[_Request, _Response]",
        request: _Request,
        deadline: float,
        tried: list[grpc.aio.Channel],
    ) -> _Response:
        channel = await self.pick(deadline - monotonic(), tried)
        tried.append(channel)
        seconds = max(0.0, deadline - monotonic())
        return await method(channel)(request, timeout=seconds, metadata=tracing.outgoing())

    def _used(self, channel: grpc.aio.Channel) -> grpc.aio.Channel:
        self._channels.remove(channel)
        self._channels.append(channel)
        return channel


async def _first_change(
    states: dict[grpc.aio.Channel, grpc.ChannelConnectivity], within_seconds: float
) -> None:
    """Returns when a channel has left its state, or the time has passed."""
    changes = [
        asyncio.ensure_future(channel.wait_for_state_change(state))
        for channel, state in states.items()
    ]
    try:
        await asyncio.wait(changes, timeout=within_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for change in changes:
            change.cancel()
