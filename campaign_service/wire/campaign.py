"""Converts campaigns to responses, and reads the requests about them."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from campaign_service.campaigns.model import Campaign, Stats, Status, Times, etag_of
from campaign_service.segments import SegmentInfo
from campaign_service.wire.spec import spec_to_proto
from chat_store.models import User
from herald.campaign.v1 import campaign_pb2 as pb
from herald.campaign.v1 import campaign_service_pb2 as service_pb
from herald.chat.v1 import chat_pb2
from herald_rpc.wire.fields import moment, timestamp
from herald_rpc.wire.response_pages import fits
from herald_rpc.wire.users import user_to_proto

_STATUSES: Mapping[Status, pb.CampaignStatus.ValueType] = {
    status: pb.CampaignStatus.Value(f"CAMPAIGN_STATUS_{status.name}") for status in Status
}


def status_name(status: str) -> str:
    """Returns the status's name in the contract."""
    return pb.CampaignStatus.Name(_STATUSES[Status(status)])


def times_from_proto(request: service_pb.StartCampaignRequest) -> Times:
    return Times(
        scheduled_for=moment(request, "scheduled_for", "scheduled_for"),
        stop_at=moment(request, "stop_at", "stop_at"),
    )


def campaign_to_proto(
    campaign: Campaign,
    sender: User | None,
    segments: Mapping[str, SegmentInfo],
    now: datetime,
) -> pb.Campaign:
    written = campaign.revision > 0
    message = spec_to_proto(campaign.spec)
    message.MergeFrom(
        pb.Campaign(
            id=campaign.id,
            status=_STATUSES[campaign.status],
            status_reason=campaign.status_reason,
            scheduled_for=timestamp(campaign.scheduled_for),
            stop_at=timestamp(campaign.stop_at),
            stats=_stats_to_proto(campaign, now),
            created_at=timestamp(campaign.created_at if written else None),
            updated_at=timestamp(campaign.updated_at if written else None),
            created_by=campaign.created_by,
            updated_by=campaign.updated_by,
            deleted_at=timestamp(campaign.deleted_at),
            etag=etag_of(campaign),
        )
    )
    if sender is not None:
        whole_sender = user_to_proto(sender)
        whole = fits(whole_sender, reserved_bytes=message.ByteSize())
        message.sender.CopyFrom(whole_sender if whole else chat_pb2.User(id=sender.id))
    for id_ in campaign.spec.segment_ids:
        segment = pb.Campaign().segments.add(id=id_)
        if id_ in segments:
            segment.ParseFromString(segments[id_].encoded)
        if fits(segment, reserved_bytes=message.ByteSize()):
            message.segments.append(segment)
        else:
            message.segments.add(id=id_)
    return message


def _stats_to_proto(campaign: Campaign, now: datetime) -> pb.CampaignStats:
    stats = campaign.stats
    rate = _messages_per_second(campaign, now)
    return pb.CampaignStats(
        started_at=timestamp(stats.started_at),
        completed_at=timestamp(stats.completed_at),
        targets_total=stats.targets_total,
        messages_sent=stats.messages_sent,
        users_sent=0 if campaign.to_channels else stats.messages_sent,
        users_read=stats.users_read,
        channels_created=stats.channels_created,
        targets_skipped=stats.targets_skipped,
        targets_failed=stats.targets_failed,
        progress=stats.progress,
        messages_per_second=rate,
        pushes_sent=stats.pushes_sent,
        pushes_failed=stats.pushes_failed,
        pushes_skipped=stats.pushes_skipped,
        estimated_completion_at=timestamp(_estimated_completion(campaign, stats, rate, now)),
    )


def _messages_per_second(campaign: Campaign, now: datetime) -> float:
    stats = campaign.stats
    if stats.started_at is None or campaign.status not in (Status.IN_PROGRESS, Status.COMPLETED):
        return 0.0
    seconds = ((stats.completed_at or now) - stats.started_at).total_seconds()
    return stats.messages_sent / seconds if seconds > 0 else 0.0


def _estimated_completion(
    campaign: Campaign, stats: Stats, rate: float, now: datetime
) -> datetime | None:
    if campaign.status is not Status.IN_PROGRESS or rate <= 0:
        return None
    left = max(0, stats.targets_total - stats.targets_handled)
    try:
        return now + timedelta(seconds=left / rate)
    except OverflowError:
        # beyond the year 9999: a run that was stopped for months has a very low rate
        return None
