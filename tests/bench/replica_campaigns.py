"""Several servers of each kind on one PostgreSQL."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from herald.campaign.v1.campaign_service_pb2_grpc import CampaignServiceStub
from herald.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from herald.event.v1.event_service_pb2_grpc import EventServiceStub
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from tests.bench.runs import PRODUCTION
from tests.harness.processes import Pair, Server, free_address, open_channel


@dataclass(frozen=True, slots=True)
class ReplicaCampaigns:
    """`pair` is the first of each, to be called; the others only work."""

    pair: Pair
    campaigns: Sequence[Server]


@contextmanager
def running_replicas(
    database_url: str, logs: Path, *, segments: int, campaigns: int
) -> Iterator[ReplicaCampaigns]:
    """So many servers until the context ends. The campaign servers know all segment servers."""
    logs.mkdir(parents=True, exist_ok=True)
    settings = {**PRODUCTION, "HERALD_DATABASE_URL": database_url}
    with ExitStack() as stack:
        segment_servers = []
        for number in range(segments):
            address = free_address()
            environment = {**settings, "HERALD_SEGMENT_LISTEN": address}
            log = logs / f"segment-{number}.log"
            server = Server("segment_service", address, environment, log)
            segment_servers.append(stack.enter_context(server))
        target = ",".join(server.address for server in segment_servers)
        campaign_servers = []
        for number in range(campaigns):
            address = free_address()
            environment = {
                **settings,
                "HERALD_CAMPAIGN_LISTEN": address,
                "HERALD_SEGMENT_TARGET": target,
            }
            log = logs / f"campaign-{number}.log"
            server = Server("campaign_service", address, environment, log)
            campaign_servers.append(stack.enter_context(server))
        to_segment = stack.enter_context(open_channel(segment_servers[0].address))
        to_campaign = stack.enter_context(open_channel(campaign_servers[0].address))
        pair = Pair(
            segment=segment_servers[0],
            campaign=campaign_servers[0],
            segments=SegmentServiceStub(to_segment),
            chat=ChatServiceStub(to_segment),
            campaigns=CampaignServiceStub(to_campaign),
            events=EventServiceStub(to_campaign),
        )
        yield ReplicaCampaigns(pair, campaign_servers)
