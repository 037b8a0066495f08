"""The end of a campaign server, whatever brings it."""

import asyncio
from importlib import import_module
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import select

import campaign_service.server
from campaign_service.events.worker_processes import InProcessDispatchers
from campaign_service.settings import CampaignSettings
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.tables import campaigns
from chat_store.database.engine import open_database
from herald.campaign.v1 import campaign_service_pb2 as pb
from herald.campaign.v1 import campaign_service_pb2_grpc
from tests.campaign.builders import MOMENT, a_spec
from tests.campaign.server_pair import Served
from tests.harness.lock_waiters import wait_for_waiters

HEALTH = health_pb2.HealthCheckResponse


class Mortal:
    """Sends nothing, and dies when it is told to."""

    is_well = True

    def __init__(self) -> None:
        self.die = asyncio.Event()

    def wake(self) -> None: ...

    async def run(self, _stop: asyncio.Event) -> None:
        await self.die.wait()
        raise ProcessLookupError("the senders are gone")


class Idle(Mortal):
    """Sends nothing, and ends when the server does."""

    async def run(self, stop: asyncio.Event) -> None:
        await stop.wait()


async def test_a_server_whose_senders_died_answers_the_calls_in_hand_before_it_ends(
    postgres_url: str,
) -> None:
    sending = Mortal()

    async def run_until(stop: asyncio.Event, settings: CampaignSettings, started: Any) -> None:
        await campaign_service.server.run_until(
            stop, settings, sending, InProcessDispatchers(settings), started
        )

    settings = CampaignSettings(
        database_url=postgres_url, campaign_listen="127.0.0.1:0", segment_target="127.0.0.1:1"
    )
    database = open_database(postgres_url)
    campaign = ("spring", a_spec(), MOMENT)
    await SqlCampaignStore(database).create(*campaign, to_channels=False)
    server = await Served.start(run_until, settings)
    async with grpc.aio.insecure_channel(server.address) as channel, asyncio.timeout(60):
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == HEALTH.SERVING
        async with database.transaction() as blocking:
            await blocking.execute(select(campaigns).with_for_update())
            stub: Any = campaign_service_pb2_grpc.CampaignServiceStub(channel)
            call = asyncio.ensure_future(stub.DeleteCampaign(pb.DeleteCampaignRequest(id="spring")))
            await wait_for_waiters(database, call)

            sending.die.set()
            assert (await watch.read()).status == HEALTH.NOT_SERVING
            watch.cancel()

        assert await call == pb.DeleteCampaignResponse()
        with pytest.raises(ExceptionGroup, match="unhandled errors") as ended:
            await server.stop()
    assert ended.group_contains(ProcessLookupError)
    await database.close()


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("module", "stub_class"),
    [
        ("herald.campaign.v1.campaign_service_pb2", "CampaignService"),
        ("herald.event.v1.event_service_pb2", "EventService"),
        ("herald.access.v1.access_service_pb2", "AccessService"),
    ],
)
async def test_health_says_serving_exactly_for_a_service_that_has_methods(
    module: str, stub_class: str, sqlite_url: str
) -> None:
    async def run_until(stop: asyncio.Event, settings: CampaignSettings, started: Any) -> None:
        await campaign_service.server.run_until(
            stop, settings, Idle(), InProcessDispatchers(settings), started
        )

    settings = CampaignSettings(
        database_url=sqlite_url, campaign_listen="127.0.0.1:0", segment_target="127.0.0.1:1"
    )
    service = import_module(module).DESCRIPTOR.services_by_name[stub_class]
    server = await Served.start(run_until, settings)
    async with grpc.aio.insecure_channel(server.address) as channel, asyncio.timeout(60):
        implemented = False
        for method in service.methods:
            # a stream may have nothing to say
            call: Any = channel.unary_stream(f"/{service.full_name}/{method.name}", None, None)
            code = grpc.StatusCode.OK
            try:
                await call(b"", timeout=5).read()
            except grpc.aio.AioRpcError as error:
                code = error.code()
            implemented = implemented or code is not grpc.StatusCode.UNIMPLEMENTED
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service.full_name))
    await server.stop()

    assert (answer.status == HEALTH.SERVING) is implemented
