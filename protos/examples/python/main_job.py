"""Sends a campaign to a few users, watches it, and reads its events in two parts.

Usage: python main_job.py, with HERALD_SEGMENT_TARGET, HERALD_CAMPAIGN_TARGET, HERALD_TLS_CA and
HERALD_TOKEN.
"""

import os
import time
import uuid

import grpc
from herald_client import CALL_SECONDS, bearer, campaign_channel, error_info, segment_channel

from herald.campaign.v1.campaign_pb2 import (
    Campaign,
    CampaignStatus,
    ChannelTemplate,
    MessageTemplate,
)
from herald.campaign.v1.campaign_service_pb2 import (
    CreateCampaignRequest,
    GetCampaignRequest,
    StartCampaignRequest,
    WatchCampaignRequest,
)
from herald.campaign.v1.campaign_service_pb2_grpc import CampaignServiceStub
from herald.campaign.v1.error_reason_pb2 import ErrorReason
from herald.chat.v1.chat_pb2 import User
from herald.chat.v1.chat_service_pb2 import UpsertUsersRequest
from herald.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from herald.event.v1.event_service_pb2 import StreamEventsRequest
from herald.event.v1.event_service_pb2_grpc import EventServiceStub
from herald.segment.v1.segment_pb2 import SEGMENT_TYPE_USER, Segment
from herald.segment.v1.segment_service_pb2 import CreateSegmentRequest
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub

_METADATA = bearer(os.environ.get("HERALD_TOKEN"))
_GUESTS = 5
_PAUSE_SECONDS = 1.0


class Herald:
    """The four services that the main job needs."""

    def __init__(self, segment: grpc.Channel, campaign: grpc.Channel) -> None:
        self.chat = ChatServiceStub(segment)
        self.segments = SegmentServiceStub(segment)
        self.campaigns = CampaignServiceStub(campaign)
        self.events = EventServiceStub(campaign)


def create_campaign(herald: Herald, run: str) -> str:
    """Returns the id. Ids of the caller's own make each call one that can be repeated."""
    host = User(id=f"host-{run}", name="Maria")
    guests = [
        User(id=f"guest-{run}-{number}", name=f"Guest {number}", role=f"guest-{run}")
        for number in range(_GUESTS)
    ]
    herald.chat.UpsertUsers(
        UpsertUsersRequest(users=[host, *guests]), timeout=CALL_SECONDS, metadata=_METADATA
    )
    segment = Segment(id=f"guests-{run}", type=SEGMENT_TYPE_USER, name="Guests")
    segment.filter.update({"role": f"guest-{run}"})
    herald.segments.CreateSegment(
        CreateSegmentRequest(segment=segment), timeout=CALL_SECONDS, metadata=_METADATA
    )
    campaign = Campaign(
        id=f"hello-{run}",
        sender_id=host.id,
        segment_ids=[segment.id],
        message_template=MessageTemplate(text="Hi {{ receiver.name }}"),
        create_channels=True,
        channel_template=ChannelTemplate(type="messaging"),
    )
    created = herald.campaigns.CreateCampaign(
        CreateCampaignRequest(campaign=campaign), timeout=CALL_SECONDS, metadata=_METADATA
    )
    return created.campaign.id


def watch(herald: Herald, campaign_id: str) -> Campaign:
    """Prints the campaign's progress; returns how it has ended. Outlasts a server that goes away."""
    last, token = Campaign(), ""
    while True:
        request = WatchCampaignRequest(id=campaign_id, resume_token=token)
        try:
            for response in herald.campaigns.WatchCampaign(request, metadata=_METADATA):
                last, token = response.campaign, response.resume_token
                print(CampaignStatus.Name(last.status), f"{last.stats.progress:.0%}")
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return last


def read_events(herald: Herald, campaign_id: str, wanted: str, after: str) -> tuple[list[str], str]:
    """Reads up to the wanted event of a campaign; returns the ids of all, and the last token."""
    ids: list[str] = []
    stream = herald.events.StreamEvents(
        StreamEventsRequest(after=after, types=["campaign.started", wanted]), metadata=_METADATA
    )
    try:
        for response in stream:
            after = response.token
            ids += [event.id for event in response.events]
            if any(
                event.type == wanted and event.campaign_id == campaign_id
                for event in response.events
            ):
                break
    finally:
        stream.cancel()
    return ids, after


def main() -> None:
    run = uuid.uuid4().hex[:12]
    with segment_channel() as segment, campaign_channel() as campaign:
        herald = Herald(segment, campaign)
        try:
            herald.campaigns.GetCampaign(
                GetCampaignRequest(id=f"hello-{run}"), timeout=CALL_SECONDS, metadata=_METADATA
            )
        except grpc.RpcError as error:
            # decide by the reason, never by the text
            reason, _ = error_info(error)
            if reason != ErrorReason.Name(ErrorReason.ERROR_REASON_CAMPAIGN_NOT_FOUND):
                raise
            campaign_id = create_campaign(herald, run)

        herald.campaigns.StartCampaign(
            StartCampaignRequest(id=campaign_id), timeout=CALL_SECONDS, metadata=_METADATA
        )
        started, token = read_events(herald, campaign_id, "campaign.started", after="")
        last = watch(herald, campaign_id)
        # a program that stores the token with its own changes handles each event once
        completed, _ = read_events(herald, campaign_id, "campaign.completed", after=token)
        assert not set(started) & set(completed)
        print(f"{CampaignStatus.Name(last.status)}: {last.stats.messages_sent} of {_GUESTS} sent")


if __name__ == "__main__":
    main()
