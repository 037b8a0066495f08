"""`make demo`: the main job from nothing, in one command, on both real servers."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import grpc
import typer
from google.protobuf import json_format
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from herald.campaign.v1 import campaign_pb2
from herald.chat.v1 import chat_pb2, chat_service_pb2
from tests.harness import hello_campaign
from tests.harness.processes import Pair, Run, ServerError, run_anew, running_pair

FOLDER = Path("data/demo")
_FILTER = {"country": "USA"}
_MESSAGES_SHOWN = 5
_RUN_SECONDS = 600.0


class DemoError(Exception):
    """The demo ran, and something about its result is wrong."""


def run(folder: Path, users: int, console: Console, run: Run = run_anew) -> campaign_pb2.Campaign:
    """Runs the demo in `folder`, which is emptied first, and returns the completed campaign."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    database_url = f"sqlite+aiosqlite:///{folder.resolve()}/herald.db"
    console.print("\n[bold]Herald[/bold]: one campaign from nothing\n")
    _tell(console, "database", f"{folder}/herald.db")
    with running_pair(database_url, folder, run=run) as pair:
        _tell(console, "servers", f"segment {pair.segment.address}")
        _tell(console, "", f"campaign {pair.campaign.address}")
        try:
            file = folder / "users.jsonl"
            hello_campaign.import_people(database_url, file, users)
            _tell(console, "users", f"{users:,}, imported from {file}")
            campaign, expected = _define(pair, console)
            campaign = _send(pair, campaign, expected, console)
            _show(pair, campaign, console)
            _verify(campaign, expected)
        except Exception as error:
            for server in (pair.segment, pair.campaign):
                error.add_note(f"\n{server.module}:\n{server.log_tail()}")
            raise
    _tell(console, "verified", f"{expected:,} users in the segment, {expected:,} messages\n")
    return campaign


def _define(pair: Pair, console: Console) -> tuple[campaign_pb2.Campaign, int]:
    """Makes the sender, the segment and the campaign; also counts whom it is to reach."""
    hello_campaign.upsert_sender(pair)
    segment = hello_campaign.create_segment(pair, _FILTER)
    expected = hello_campaign.count_targets(pair, segment)
    _tell(console, "segment", json_format.MessageToJson(segment.filter, indent=None))
    _tell(console, "", f"{expected:,} users")
    campaign = hello_campaign.create_campaign(pair, segment)
    _tell(console, "campaign", campaign.message_template.text)
    return campaign, expected


def _send(
    pair: Pair, campaign: campaign_pb2.Campaign, expected: int, console: Console
) -> campaign_pb2.Campaign:
    """Starts the campaign and returns it in its final status."""
    hello_campaign.start(pair, campaign)
    columns = (TextColumn("  sending    "), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=expected)
        for state in hello_campaign.progress(pair, campaign, _RUN_SECONDS):
            campaign = state
            progress.update(bar, completed=state.stats.messages_sent)
    return campaign


def _show(pair: Pair, campaign: campaign_pb2.Campaign, console: Console) -> None:
    stats = campaign.stats
    status = campaign_pb2.CampaignStatus.Name(campaign.status)
    table = Table(show_header=False, title="\nThe campaign", title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_row("status", status.removeprefix("CAMPAIGN_STATUS_").lower())
    table.add_row("targets", f"{stats.targets_total:,}")
    table.add_row("messages sent", f"{stats.messages_sent:,}")
    table.add_row("channels created", f"{stats.channels_created:,}")
    table.add_row("skipped", f"{stats.targets_skipped:,}")
    table.add_row("failed", f"{stats.targets_failed:,}")
    table.add_row("seconds", f"{hello_campaign.run_seconds(campaign):.2f}")
    console.print(table)

    table = Table("channel", "message", title="\nSome of its messages", title_justify="left")
    for message in _some_messages(pair, campaign):
        table.add_row(message.cid, message.text)
    console.print(table)
    console.print()


def _some_messages(pair: Pair, campaign: campaign_pb2.Campaign) -> list[chat_pb2.Message]:
    request = chat_service_pb2.QueryMessagesRequest(
        campaign_id=campaign.id, page_size=_MESSAGES_SHOWN
    )
    return list(pair.chat.QueryMessages(request, timeout=hello_campaign.CALL_SECONDS).messages)


def _verify(campaign: campaign_pb2.Campaign, expected: int) -> None:
    if campaign.status != campaign_pb2.CAMPAIGN_STATUS_COMPLETED:
        raise DemoError(f"the campaign was not completed: {campaign.status_reason}")
    if not expected:
        raise DemoError("nobody is in the segment")
    if campaign.stats.messages_sent != expected:
        raise DemoError(f"{campaign.stats.messages_sent} messages for {expected} users")


def _tell(console: Console, what: str, value: str) -> None:
    console.print(f"  {what:<12}{value}", markup=False, highlight=False)


def main(
    users: Annotated[int, typer.Option(min=1, help="How many users to import.")] = 10_000,
) -> None:
    """Sends one campaign to a part of a realistic user base."""
    try:
        run(FOLDER, users, Console())
    except (
        DemoError,
        ServerError,
        hello_campaign.LateError,
        grpc.RpcError,
        subprocess.CalledProcessError,
    ) as error:
        said = getattr(error, "stderr", None) or ""
        notes = "\n".join(getattr(error, "__notes__", ()))
        print(f"\nThe demo failed: {error}\n{said}{notes}", file=sys.stderr)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
