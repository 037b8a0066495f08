"""The campaigns that are measured, each started on a running pair."""

from google.protobuf import json_format

from herald.campaign.v1 import campaign_pb2, campaign_service_pb2
from herald.segment.v1 import segment_pb2, segment_service_pb2
from tests.harness import hello_campaign
from tests.harness.processes import Pair

# ten millions are counted before a start is answered
_START_SECONDS = 600.0


def into_new_channels(pair: Pair) -> campaign_pb2.Campaign:
    return hello_campaign.start_for_everyone(pair)


def into_channels_by_id(pair: Pair) -> campaign_pb2.Campaign:
    """To every user, in the channel that the template's id names and that is there."""
    template = campaign_pb2.ChannelTemplate(
        type=hello_campaign.CHANNEL_TYPE, id=hello_campaign.CHANNEL_ID
    )
    return _started(pair, _to_users(pair, campaign_pb2.Campaign(channel_template=template)))


def into_channels_of_two(pair: Pair) -> campaign_pb2.Campaign:
    """To every user, in the channel that has the user and the sender only."""
    return _started(pair, _to_users(pair, campaign_pb2.Campaign()))


def to_channels(pair: Pair) -> campaign_pb2.Campaign:
    """To the channels themselves, by a filter that all of them match."""
    segment = segment_pb2.Segment(type=segment_pb2.SEGMENT_TYPE_CHANNEL, name="All channels")
    json_format.ParseDict({"type": hello_campaign.CHANNEL_TYPE}, segment.filter)
    request = segment_service_pb2.CreateSegmentRequest(segment=segment)
    created = pair.segments.CreateSegment(request, timeout=hello_campaign.CALL_SECONDS).segment
    text = "{{ sender.name }} to all {{ channel.member_count }} of {{ channel.id }}"
    return _started(
        pair,
        campaign_pb2.Campaign(
            segment_ids=[created.id], message_template=campaign_pb2.MessageTemplate(text=text)
        ),
    )


def _to_users(pair: Pair, campaign: campaign_pb2.Campaign) -> campaign_pb2.Campaign:
    segment = hello_campaign.create_segment(pair, hello_campaign.EVERYONE_BUT_THE_SENDER)
    campaign.segment_ids.append(segment.id)
    campaign.message_template.text = hello_campaign.TEXT
    return campaign


def _started(pair: Pair, campaign: campaign_pb2.Campaign) -> campaign_pb2.Campaign:
    hello_campaign.upsert_sender(pair)
    campaign.sender_id = hello_campaign.SENDER.id
    create = campaign_service_pb2.CreateCampaignRequest(campaign=campaign)
    created = pair.campaigns.CreateCampaign(create, timeout=hello_campaign.CALL_SECONDS).campaign
    start = campaign_service_pb2.StartCampaignRequest(id=created.id)
    return pair.campaigns.StartCampaign(start, timeout=_START_SECONDS).campaign
