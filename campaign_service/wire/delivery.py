"""Converts deliveries and previews, and reads the requests about them."""

from collections.abc import Iterable, Mapping

from campaign_service.campaigns.outcomes import Delivery, Outcome, Preview, PreviewRequest, Reason
from campaign_service.wire.spec import spec_from_proto
from chat_store.errors import InvalidInputError
from chat_store.ids import MAX_CID, MAX_ID
from herald.campaign.v1 import campaign_pb2 as pb
from herald.campaign.v1 import campaign_service_pb2 as service_pb
from herald_rpc.wire.fields import ids, required, text, timestamp
from herald_rpc.wire.messages import message_to_proto
from herald_rpc.wire.queries import PageSizes
from herald_rpc.wire.response_pages import fitting_count

_MAX_RECEIVERS = 100
_SAMPLES = PageSizes(default=10, largest=100)

_OUTCOMES: Mapping[Outcome, pb.DeliveryOutcome.ValueType] = {
    outcome: pb.DeliveryOutcome.Value(f"DELIVERY_OUTCOME_{outcome.name}") for outcome in Outcome
}
_REQUESTED_OUTCOMES: Mapping[pb.DeliveryOutcome.ValueType, Outcome | None] = {
    pb.DELIVERY_OUTCOME_UNSPECIFIED: None,
    **{value: outcome for outcome, value in _OUTCOMES.items()},
}
_REASONS: Mapping[Reason | None, pb.DeliveryReason.ValueType] = {
    None: pb.DELIVERY_REASON_UNSPECIFIED,
    **{reason: pb.DeliveryReason.Value(f"DELIVERY_REASON_{reason.name}") for reason in Reason},
}


def preview_request_from_proto(request: service_pb.PreviewCampaignRequest) -> PreviewRequest:
    """Reads the request. Raises for the first field that breaks a rule."""
    sample_size = _SAMPLES.size(request.sample_size, "sample_size")
    receivers = ids(request.receiver_ids, "receiver_ids", _MAX_RECEIVERS, least=0, longest=MAX_CID)
    if receivers and request.sample_size:
        raise InvalidInputError("sample_size", "can't be combined with receiver_ids")
    spec = None
    if request.WhichOneof("source") == "id":
        campaign_id = required(request.id, "id", MAX_ID)
    elif request.HasField("campaign"):
        campaign_id = text(request.campaign.id, "campaign.id", MAX_ID)
        spec = spec_from_proto(request.campaign)
    else:
        raise InvalidInputError("source", "is required: id or campaign")
    return PreviewRequest(campaign_id, spec, tuple(dict.fromkeys(receivers)), sample_size)


def previews_to_proto(previews: Iterable[Preview]) -> list[pb.Preview]:
    """Returns the first previews that fit into one response, at least one."""
    messages = list(map(_preview_to_proto, previews))
    return messages[: fitting_count(messages, reserved_bytes=0)]


def outcome_from_proto(value: pb.DeliveryOutcome.ValueType, field: str) -> Outcome | None:
    """Reads an outcome. None means any."""
    if value not in _REQUESTED_OUTCOMES:
        raise InvalidInputError(field, f"unknown value {value}")
    return _REQUESTED_OUTCOMES[value]


def delivery_to_proto(delivery: Delivery) -> pb.Delivery:
    return pb.Delivery(
        target_id=delivery.target_id,
        outcome=_OUTCOMES[delivery.outcome],
        reason=_REASONS[delivery.reason],
        message_id=delivery.message_id or "",
        cid=delivery.cid or "",
        created_at=timestamp(delivery.created_at),
    )


def _preview_to_proto(preview: Preview) -> pb.Preview:
    return pb.Preview(
        target_id=preview.target_id,
        cid=preview.cid or "",
        channel_would_be_created=preview.channel_would_be_created,
        message=message_to_proto(preview.message) if preview.message else None,
        outcome=_OUTCOMES[preview.reason.outcome if preview.reason else Outcome.SENT],
        reason=_REASONS[preview.reason],
    )
