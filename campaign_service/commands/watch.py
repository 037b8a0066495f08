"""`herald watch`: shows a campaign on the terminal until it ends."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import grpc
import typer
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from herald.campaign.v1 import campaign_pb2 as pb
from herald.campaign.v1 import campaign_service_pb2 as service_pb
from herald.campaign.v1 import campaign_service_pb2_grpc
from herald_rpc.certificates import CertificateError
from herald_rpc.client.channels import ChannelSecurity, TargetError, open_channels, with_advice
from herald_rpc.client.picker import ChannelPicker
from herald_rpc.process.waiting import Backoff

# for the first connection to one of several servers
_CONNECT_SECONDS = 10.0

Show = Callable[[str, float], None]


class ExitCode(IntEnum):
    """The final status of the campaign, as an exit code."""

    COMPLETED = 0
    FAILED = 1
    STOPPED = 3


def watch(campaign_id: str, target: str, security: ChannelSecurity) -> ExitCode:
    """Shows the campaign's progress on standard output: a bar on a terminal, else lines."""
    try:
        return asyncio.run(_watch(campaign_id, target, security))
    except (TargetError, CertificateError) as error:
        problem = str(error)
    except grpc.aio.AioRpcError as error:
        problem = _problem_of(error)
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            problem = with_advice(problem, security)
    typer.echo(problem, err=True)
    return ExitCode.FAILED


async def _watch(campaign_id: str, target: str, security: ChannelSecurity) -> ExitCode:
    campaign = pb.Campaign()
    with _shown() as show:
        async with aclosing(_followed(campaign_id, target, security)) as campaigns:
            async for campaign in campaigns:
                show(_line(campaign, datetime.now(UTC)), campaign.stats.progress)
    match campaign.status:
        case pb.CAMPAIGN_STATUS_COMPLETED:
            return ExitCode.COMPLETED
        case pb.CAMPAIGN_STATUS_STOPPED:
            return ExitCode.STOPPED
        case _:
            return ExitCode.FAILED


async def _followed(
    campaign_id: str, target: str, security: ChannelSecurity
) -> AsyncGenerator[pb.Campaign, None]:
    """Yields the campaign at each change. Waits for a server that goes away."""
    request = service_pb.WatchCampaignRequest(id=campaign_id)
    backoff = Backoff()
    async with open_channels(target, security) as channels:
        picker = ChannelPicker(channels.values())
        while True:
            channel = await picker.pick(_CONNECT_SECONDS)
            stub = campaign_service_pb2_grpc.CampaignServiceStub(channel)
            call = stub.WatchCampaign(request)
            try:
                async for response in call:
                    request.resume_token = response.resume_token
                    backoff.reset()
                    yield response.campaign
            except grpc.aio.AioRpcError as error:
                # a server that never answered may be a wrong address
                if error.code() is not grpc.StatusCode.UNAVAILABLE or not request.resume_token:
                    raise
            else:
                return
            finally:
                call.cancel()
            await asyncio.sleep(backoff.next())


@contextmanager
def _shown() -> Iterator[Show]:
    console = Console(highlight=False)
    if not console.is_terminal:
        yield lambda line, _: typer.echo(line)
        return
    columns = (BarColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("waiting for the server", total=1.0)
        yield lambda line, done: progress.update(task, description=line, completed=done)


def _line(campaign: pb.Campaign, now: datetime) -> str:
    stats = campaign.stats
    handled = stats.messages_sent + stats.targets_skipped + stats.targets_failed
    status = pb.CampaignStatus.Name(campaign.status).removeprefix("CAMPAIGN_STATUS_")
    parts = [
        "deleted" if campaign.HasField("deleted_at") else status.lower().replace("_", " "),
        f"{handled:,} of {stats.targets_total:,} ({stats.progress:.0%})",
    ]
    if stats.messages_per_second:
        parts.append(f"{stats.messages_per_second:,.0f}/s")
    if stats.HasField("estimated_completion_at"):
        left = stats.estimated_completion_at.ToDatetime(UTC) - now
        parts.append(f"{max(timedelta(), timedelta(seconds=round(left.total_seconds())))} left")
    if campaign.status_reason:
        parts.append(campaign.status_reason)
    return ", ".join(parts)


def _problem_of(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it is a call, too
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return f"{info.reason}: {error.details()}"
    return f"{error.code().name}: {error.details()}"
