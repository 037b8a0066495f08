"""The worker that logs when the segment service can't be reached, and when it is back."""

import asyncio
from time import monotonic
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from herald_rpc.client.channels import ChannelSecurity, with_advice

logger = structlog.get_logger(__name__)

_STATES = grpc.ChannelConnectivity
_ASK_SECONDS = 1.0


class SegmentWatch:
    """Follows the state of a channel to it. The calls have retries of their own."""

    is_well = True
    """Campaigns can be read and edited without the segment service."""

    def __init__(self, channel: grpc.aio.Channel, target: str, security: ChannelSecurity) -> None:
        self._channel = channel
        self._target = target
        self._security = security
        self._lost_at: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Watches until `stop` is set."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                state = self._channel.get_state(try_to_connect=True)
                await self._note(state)
                change = asyncio.ensure_future(self._channel.wait_for_state_change(state))
                try:
                    await asyncio.wait({change, stopping}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    change.cancel()
        finally:
            stopping.cancel()

    async def _note(self, state: grpc.ChannelConnectivity) -> None:
        if state is _STATES.TRANSIENT_FAILURE and self._lost_at is None:
            self._lost_at = monotonic()
            logger.warning(
                "the segment service can't be reached",
                target=self._target,
                error=await self._last_error(),
            )
        elif state is _STATES.READY and self._lost_at is not None:
            seconds = round(monotonic() - self._lost_at, 1)
            self._lost_at = None
            logger.info("the segment service is back", target=self._target, seconds=seconds)

    async def _last_error(self) -> str:
        """Asks for the health, which fails at once with what the channel's last attempt met."""
        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=_ASK_SECONDS)
        except grpc.aio.AioRpcError as error:
            return with_advice(error.details() or "", self._security)
        return "it answers again"
