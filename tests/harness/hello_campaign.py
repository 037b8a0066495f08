"""The campaign of the documentation, call by call, on a running pair."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

from google.protobuf import json_format

from herald.campaign.v1 import campaign_pb2, campaign_service_pb2
from herald.chat.v1 import chat_pb2, chat_service_pb2
from herald.segment.v1 import segment_pb2, segment_service_pb2
from tests.harness.processes import Pair
from tests.harness.sample_users import people, write_people

TEXT = "Hi {{ receiver.name }} I'm {{ sender.name }}!"
CHANNEL_TYPE = "messaging"
CHANNEL_ID = "{{receiver.id}}-{{sender.id}}"
SENDER = chat_pb2.User(id="maria", name="Maria", role="host")
EVERYONE_BUT_THE_SENDER = {"role": "user"}

CALL_SECONDS = 30.0
_BETWEEN_LOOKS_SECONDS = 0.1
_FINAL = (campaign_pb2.CAMPAIGN_STATUS_COMPLETED, campaign_pb2.CAMPAIGN_STATUS_STOPPED)


class LateError(Exception):
    """What was waited for did not come in time; tells the campaign as it was then."""


def import_people(database_url: str, file: Path, how_many: int) -> list[dict[str, Any]]:
    """Writes so many people to `file`, and imports them; returns them."""
    them = list(islice(people(), how_many))
    write_people(file, them)
    import_file(database_url, file)
    return them


def import_file(database_url: str, file: Path) -> None:
    """Imports it as an operator does."""
    subprocess.run(
        [sys.executable, "-m", "chat_store", "import", str(file)],
        env={**os.environ, "HERALD_DATABASE_URL": database_url},
        check=True,
        capture_output=True,
        text=True,
    )


def upsert_sender(pair: Pair) -> None:
    request = chat_service_pb2.UpsertUsersRequest(users=[SENDER])
    pair.chat.UpsertUsers(request, timeout=CALL_SECONDS, wait_for_ready=True)


def create_segment(pair: Pair, filter_: dict[str, Any]) -> segment_pb2.Segment:
    segment = segment_pb2.Segment(type=segment_pb2.SEGMENT_TYPE_USER, name="The audience")
    json_format.ParseDict(filter_, segment.filter)
    request = segment_service_pb2.CreateSegmentRequest(segment=segment)
    return pair.segments.CreateSegment(request, timeout=CALL_SECONDS, wait_for_ready=True).segment


def count_targets(pair: Pair, segment: segment_pb2.Segment) -> int:
    request = segment_service_pb2.CountTargetsRequest(segment_ids=[segment.id])
    return pair.segments.CountTargets(request, timeout=CALL_SECONDS, wait_for_ready=True).count


def create_campaign(pair: Pair, segment: segment_pb2.Segment) -> campaign_pb2.Campaign:
    campaign = campaign_pb2.Campaign(
        name="Hello",
        sender_id=SENDER.id,
        segment_ids=[segment.id],
        message_template=campaign_pb2.MessageTemplate(text=TEXT),
        create_channels=True,
        channel_template=campaign_pb2.ChannelTemplate(type=CHANNEL_TYPE, id=CHANNEL_ID),
    )
    request = campaign_service_pb2.CreateCampaignRequest(campaign=campaign)
    return pair.campaigns.CreateCampaign(
        request, timeout=CALL_SECONDS, wait_for_ready=True
    ).campaign


def start(pair: Pair, campaign: campaign_pb2.Campaign) -> None:
    request = campaign_service_pb2.StartCampaignRequest(id=campaign.id)
    pair.campaigns.StartCampaign(request, timeout=CALL_SECONDS, wait_for_ready=True)


def start_for_everyone(pair: Pair) -> campaign_pb2.Campaign:
    """All of it at once, to everyone but the sender."""
    upsert_sender(pair)
    campaign = create_campaign(pair, create_segment(pair, EVERYONE_BUT_THE_SENDER))
    start(pair, campaign)
    return campaign


def get(pair: Pair, campaign: campaign_pb2.Campaign) -> campaign_pb2.Campaign:
    request = campaign_service_pb2.GetCampaignRequest(id=campaign.id)
    return pair.campaigns.GetCampaign(request, timeout=CALL_SECONDS, wait_for_ready=True).campaign


def progress(
    pair: Pair, campaign: campaign_pb2.Campaign, seconds: float
) -> Iterator[campaign_pb2.Campaign]:
    """The campaign, again and again as fast as it goes, up to and with its final status."""
    deadline = time.monotonic() + seconds
    while True:
        campaign = get(pair, campaign)
        yield campaign
        if campaign.status in _FINAL:
            return
        if time.monotonic() > deadline:
            raise LateError(f"not at its end within {seconds} s: {campaign}")


def wait_until(
    pair: Pair,
    campaign: campaign_pb2.Campaign,
    reached: Callable[[campaign_pb2.Campaign], bool],
    seconds: float,
) -> campaign_pb2.Campaign:
    """Returns the first state that has reached it. Raises `LateError` also at a final status."""
    for state in progress(pair, campaign, seconds):
        campaign = state
        if reached(state):
            return state
        # who asks all the time slows down what is waited for
        Event().wait(_BETWEEN_LOOKS_SECONDS)
    raise LateError(f"never reached: {campaign}")


def wait_until_completed(
    pair: Pair, campaign: campaign_pb2.Campaign, seconds: float
) -> campaign_pb2.Campaign:
    return wait_until(
        pair,
        campaign,
        lambda state: state.status == campaign_pb2.CAMPAIGN_STATUS_COMPLETED,
        seconds,
    )


def run_seconds(campaign: campaign_pb2.Campaign) -> float:
    """From its start to its completion, by the server's own clock."""
    stats = campaign.stats
    return (stats.completed_at.ToNanoseconds() - stats.started_at.ToNanoseconds()) / 1e9
