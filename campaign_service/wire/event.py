"""Events as messages, and the offsets between them as tokens."""

from collections.abc import Iterable, Iterator, Sequence

from campaign_service.campaigns.events import Event, EventType, Offset
from chat_store.errors import InvalidInputError
from herald.event.v1 import event_pb2 as pb
from herald.event.v1 import event_service_pb2 as service_pb
from herald_rpc.server import page_tokens
from herald_rpc.wire.fields import timestamp
from herald_rpc.wire.queries import InvalidTokenError, read_token
from herald_rpc.wire.structs import to_struct

_KIND = "events"
# a message has this much of events, or a single one
_MESSAGE_BYTES = 1_000_000


def event_to_proto(event: Event) -> pb.Event:
    return pb.Event(
        id=event.id,
        type=event.type,
        created_at=timestamp(event.created_at),
        payload=to_struct(event.payload),
        campaign_id=event.campaign_id,
    )


def stream_responses(
    events: Sequence[Event], offset: Offset
) -> Iterator[service_pb.StreamEventsResponse]:
    """As many messages as it takes; the last one's token is of the offset."""
    response, size = service_pb.StreamEventsResponse(), 0
    behind = offset
    for event in events:
        message = event_to_proto(event)
        more = message.ByteSize()
        if size and size + more > _MESSAGE_BYTES:
            response.token = _token(behind)
            yield response
            response, size = service_pb.StreamEventsResponse(), 0
        response.events.append(message)
        size += more
        behind = event.next_offset
    response.token = _token(offset)
    yield response


def offset_from_token(token: str, field: str) -> Offset | None:
    """None for no token. Raises `InvalidTokenError`."""
    if not token:
        return None
    offset = read_token(_KIND, [], token, field)
    if len(offset) != len(Offset._fields) or not all(type(part) is int for part in offset):
        raise InvalidTokenError(field, "is damaged, or belongs to another call")
    return Offset(*offset)


def types_from_proto(types: Iterable[str], field: str) -> tuple[EventType, ...]:
    """Each once. Raises `InvalidInputError` for one that does not exist."""
    known = {type_.value: type_ for type_ in EventType}
    found: dict[EventType, None] = {}
    for index, name in enumerate(types):
        if name not in known:
            raise InvalidInputError(f"{field}[{index}]", f"is not a type of event: {name!r}")
        found[known[name]] = None
    return tuple(found)


def _token(offset: Offset) -> str:
    return page_tokens.encode(_KIND, [], list(offset))
