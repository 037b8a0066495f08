"""The two real servers in this process, each to be stopped and started by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import grpc

import campaign_service.server
import segment_service.server
from campaign_service.events.worker_processes import InProcessDispatchers
from campaign_service.sending.worker_processes import InProcessSenders
from campaign_service.settings import CampaignSettings
from herald.campaign.v1 import campaign_pb2, campaign_service_pb2_grpc
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.event.v1 import event_service_pb2_grpc
from herald.segment.v1 import segment_pb2, segment_service_pb2_grpc
from herald.segment.v1 import segment_service_pb2 as segment_service_pb
from herald_rpc.server.serving import RunningServer
from segment_service.settings import SegmentSettings

# A thread that never rests would keep the servers of this process from their work. Whoever has
# waited for long looks less often.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.1
_LONGER = 1.1
_ANY_PORT = "127.0.0.1:0"
_FINAL = (campaign_pb2.CAMPAIGN_STATUS_COMPLETED, campaign_pb2.CAMPAIGN_STATUS_STOPPED)


class Served:
    """A server that runs as a task of this process until it is stopped."""

    def __init__(self, task: asyncio.Task[None], stop: asyncio.Event, address: str) -> None:
        self._task = task
        self._stop = stop
        self.address = address

    @classmethod
    async def start(cls, run_until: Callable[..., Awaitable[None]], settings: Any) -> Self:
        stop = asyncio.Event()
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def started(server: RunningServer) -> None:
            listening.set_result(server.address)

        async def run() -> None:
            await run_until(stop, settings, started)

        task = asyncio.create_task(run())
        either: list[asyncio.Future[Any]] = [task, listening]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        return cls(task, stop, await listening)

    async def stop(self) -> None:
        """As SIGTERM does. Raises what ended the server, if anything else has."""
        self._stop.set()
        await self._task


@dataclass
class ServerPair:
    """Both servers on one database, and ready stubs for what they serve."""

    database_url: str
    settings: dict[str, Any]
    segment: Served
    campaign: Served
    segments: Any
    campaigns: Any
    events: Any
    channels: AsyncExitStack = field(repr=False)

    async def restart_segment(self) -> None:
        """Starts it again, after its stop, where it was."""
        self.segment = await _segment(self.database_url, self.segment.address)

    async def restart_campaign(self, **settings: Any) -> None:
        """Starts another one, after the stop of the first. `settings` go over those it had."""
        changed = {**self.settings, **settings}
        self.campaign = await another_campaign_server(self, **changed)
        channel = await self.channels.enter_async_context(
            grpc.aio.insecure_channel(self.campaign.address)
        )
        self.campaigns = campaign_service_pb2_grpc.CampaignServiceStub(channel)
        self.events = event_service_pb2_grpc.EventServiceStub(channel)

    async def add_list(
        self,
        id_: str,
        targets: list[str],
        type_: segment_pb2.SegmentType.ValueType = segment_pb2.SEGMENT_TYPE_USER,
    ) -> None:
        await self.create_segment(segment_pb2.Segment(id=id_, type=type_))
        if targets:
            await self.add_targets(id_, targets)

    async def create_segment(self, segment: segment_pb2.Segment) -> None:
        await self.segments.CreateSegment(segment_service_pb.CreateSegmentRequest(segment=segment))

    async def add_targets(self, id_: str, targets: list[str]) -> None:
        request = segment_service_pb.AddTargetsRequest(segment_id=id_, target_ids=targets)
        await self.segments.AddTargets(request)

    async def delete_segment(self, id_: str) -> None:
        await self.segments.DeleteSegment(segment_service_pb.DeleteSegmentRequest(id=id_))

    async def create(self, campaign: campaign_pb2.Campaign) -> campaign_pb2.Campaign:
        request = pb.CreateCampaignRequest(campaign=campaign)
        return _campaign(await self.campaigns.CreateCampaign(request))

    async def start(self, id_: str = "spring") -> campaign_pb2.Campaign:
        return _campaign(await self.campaigns.StartCampaign(pb.StartCampaignRequest(id=id_)))

    async def stop(self, id_: str = "spring") -> campaign_pb2.Campaign:
        return _campaign(await self.campaigns.StopCampaign(pb.StopCampaignRequest(id=id_)))

    async def get(self, id_: str = "spring") -> campaign_pb2.Campaign:
        return _campaign(await self.campaigns.GetCampaign(pb.GetCampaignRequest(id=id_)))

    async def until(
        self, reached: Callable[[campaign_pb2.Campaign], bool], id_: str = "spring"
    ) -> campaign_pb2.Campaign:
        """Asks again and again; the test's own time-out is its bound."""
        pause = _FIRST_PAUSE_SECONDS
        while not reached(campaign := await self.get(id_)):
            assert campaign.status not in _FINAL, campaign
            await asyncio.sleep(pause)
            pause = min(pause * _LONGER, _LONGEST_PAUSE_SECONDS)
        return campaign

    async def until_under_way(self, id_: str = "spring", *, sent: int = 0) -> campaign_pb2.Campaign:
        """More than `sent` have got their message, and others have not."""
        campaign = await self.until(lambda campaign: campaign.stats.messages_sent > sent, id_)
        assert campaign.status == campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS, campaign
        assert 0 < campaign.stats.progress < 1
        return campaign

    async def until_completed(self, id_: str = "spring") -> campaign_pb2.Campaign:
        completed = campaign_pb2.CAMPAIGN_STATUS_COMPLETED
        return await self.until(lambda campaign: campaign.status == completed, id_)

    async def until_stopped(self, id_: str = "spring") -> campaign_pb2.Campaign:
        stopped = campaign_pb2.CAMPAIGN_STATUS_STOPPED
        return await self.until(lambda campaign: campaign.status == stopped, id_)


@asynccontextmanager
async def start_pair(database_url: str, **settings: Any) -> AsyncIterator[ServerPair]:
    """Both servers until the context ends. `settings` are the campaign server's."""
    async with AsyncExitStack() as channels:
        segment = await _segment(database_url, _ANY_PORT)
        to_segment = await channels.enter_async_context(grpc.aio.insecure_channel(segment.address))
        services = ServerPair(
            database_url=database_url,
            settings=settings,
            segment=segment,
            campaign=segment,
            segments=segment_service_pb2_grpc.SegmentServiceStub(to_segment),
            campaigns=None,
            events=None,
            channels=channels,
        )
        await services.restart_campaign()
        try:
            yield services
        finally:
            await services.campaign.stop()
            await services.segment.stop()


async def answered(services: ServerPair, request: Any) -> Any:
    """Calls the RPC whose request it is."""
    method = type(request).__name__.removesuffix("Request")
    return await getattr(services.campaigns, method)(request)


async def another_campaign_server(services: ServerPair, **settings: Any) -> Served:
    async def run_until(stop: asyncio.Event, settings: CampaignSettings, started: Any) -> None:
        sending = InProcessSenders(settings)
        await campaign_service.server.run_until(
            stop, settings, sending, InProcessDispatchers(settings), started
        )

    return await Served.start(
        run_until,
        CampaignSettings(
            **{
                "database_url": services.database_url,
                "campaign_listen": _ANY_PORT,
                "segment_target": services.segment.address,
                "grace_seconds": 5,
                **settings,
            }
        ),
    )


async def _segment(database_url: str, address: str) -> Served:
    settings = SegmentSettings(database_url=database_url, segment_listen=address, grace_seconds=5)
    return await Served.start(segment_service.server.run_until, settings)


def _campaign(response: Any) -> campaign_pb2.Campaign:
    campaign: campaign_pb2.Campaign = response.campaign
    return campaign
