"""Converts between the package's messages and the domain's values, and checks each field."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from chat_store.errors import InvalidFilterError, InvalidInputError, LimitExceededError
from chat_store.ids import MAX_CID, MAX_ID
from herald.segment.v1 import segment_pb2
from herald.segment.v1 import segment_service_pb2 as pb
from herald_rpc.server import page_tokens
from herald_rpc.wire.budget import MAX_RECORD_BYTES
from herald_rpc.wire.fields import ids, text, timestamp
from herald_rpc.wire.queries import (
    InvalidTokenError,
    PageSizes,
    Query,
    read_filter,
    read_query,
    read_token,
)
from herald_rpc.wire.structs import to_struct
from segment_service.filter_fields import (
    BY_TARGET_ID,
    SEGMENT_FIELDS,
    TARGET_FIELDS,
    check_target_operators,
)
from segment_service.segments import (
    Change,
    Definition,
    Segment,
    SegmentSpec,
    SegmentType,
    Shard,
    Target,
)
from segment_service.streams import TargetCursor

MAX_NAME = 128
MAX_DESCRIPTION = 256
MAX_SEGMENTS = 25
MAX_TARGETS = 10_000
MAX_SHARDS = 1_024

# of the protobuf message; the segment's other fields have limits of their own
MAX_FILTER_BYTES = MAX_RECORD_BYTES

# protobuf parsers accept 100 nested messages, and a campaign's response nests the filter in two:
# all 20 levels of `$and` fit, and so do 20 levels of JSON inside 8 of them
_MOST_MESSAGES_INSIDE = 98

STREAM_SIZES = PageSizes(default=1_000, largest=10_000)
_SEGMENT_SIZES = PageSizes(default=25, largest=100)
_TARGET_SIZES = PageSizes(default=25, largest=10_000)

_STREAM_TOKEN = "stream-targets"  # noqa: S105 - a kind of token

_TYPES = {
    segment_pb2.SEGMENT_TYPE_USER: SegmentType.USER,
    segment_pb2.SEGMENT_TYPE_CHANNEL: SegmentType.CHANNEL,
}
_TYPE_NUMBERS = {type_: number for number, type_ in _TYPES.items()}
_Field = Literal["name", "description", "filter"]
_FIELDS: tuple[_Field, ...] = get_args(_Field)


def spec_from_proto(message: segment_pb2.Segment) -> SegmentSpec:
    definition = _definition(message)
    return SegmentSpec(
        type=_type(message),
        name=text(message.name, "segment.name", MAX_NAME),
        description=text(message.description, "segment.description", MAX_DESCRIPTION),
        definition=definition or Definition.LIST,
        filter=_filter(message) if definition is Definition.FILTER else None,
    )


def change_from_proto(request: pb.UpdateSegmentRequest) -> Change:
    message = request.segment
    definition = _definition(message)
    fields = _changed_fields(message, request.update_mask.paths)
    given = definition is Definition.FILTER
    return Change(
        fields=frozenset(fields),
        name=text(message.name, "segment.name", MAX_NAME),
        description=text(message.description, "segment.description", MAX_DESCRIPTION),
        filter=_filter(message) if given and "filter" in fields else None,
        type=_type(message) if message.type else None,
        definition=None if given else definition,
    )


def segment_to_proto(segment: Segment) -> segment_pb2.Segment:
    spec = segment.spec
    message = segment_pb2.Segment(
        id=segment.id,
        type=_TYPE_NUMBERS[spec.type],
        name=spec.name,
        description=spec.description,
        size=segment.size,
        size_updated_at=timestamp(segment.size_updated_at),
        created_at=timestamp(segment.created_at),
        updated_at=timestamp(segment.updated_at),
        created_by=segment.created_by,
        updated_by=segment.updated_by,
        deleted_at=timestamp(segment.deleted_at),
    )
    match spec.definition:
        case Definition.FILTER:
            message.filter.CopyFrom(to_struct(spec.filter or {}))
        case Definition.ALL_USERS:
            message.all_users = True
        case Definition.ALL_SENDER_CHANNELS:
            message.all_sender_channels = True
        case Definition.LIST:
            pass
    return message


def target_to_proto(target: Target) -> segment_pb2.Target:
    return segment_pb2.Target(target_id=target.id, created_at=timestamp(target.created_at))


async def segment_query(request: pb.QuerySegmentsRequest) -> Query:
    return await read_query(
        "segments",
        filter=request.filter,
        sort=request.sort,
        page_size=request.page_size,
        page_token=request.page_token,
        sizes=_SEGMENT_SIZES,
        catalogue=SEGMENT_FIELDS,
        bound_to=[request.show_deleted],
    )


async def target_query(request: pb.QueryTargetsRequest) -> Query:
    query = await read_query(
        "targets",
        filter=request.filter,
        sort=request.sort,
        page_size=request.page_size,
        page_token=request.page_token,
        sizes=_TARGET_SIZES,
        catalogue=TARGET_FIELDS,
        default_sort=BY_TARGET_ID,
        bound_to=[request.segment_id, request.sender_id],
    )
    check_target_operators(query.predicate)
    return query


def segment_ids(values: Sequence[str]) -> list[str]:
    return ids(values, "segment_ids", MAX_SEGMENTS)


def target_ids(values: Sequence[str]) -> list[str]:
    return ids(values, "target_ids", MAX_TARGETS, longest=MAX_CID)


def sender_id(value: str) -> str:
    return text(value, "sender_id", MAX_ID)


def page_limit(value: int) -> int:
    if value < 0:
        raise InvalidInputError("page_limit", "must not be negative")
    return value


def stream_cursor(request: pb.StreamTargetsRequest) -> TargetCursor:
    cursor = TargetCursor(
        segment_ids=tuple(segment_ids(request.segment_ids)),
        sender_id=sender_id(request.sender_id),
        shard=_shard(request.shard),
        after="",
    )
    if not request.resume_token:
        return cursor
    position = read_token(_STREAM_TOKEN, _bound_to(cursor), request.resume_token, "resume_token")
    match position:
        case [str(after)] if "\0" not in after:
            return TargetCursor(cursor.segment_ids, cursor.sender_id, cursor.shard, after)
        case _:
            raise InvalidTokenError("resume_token", "is damaged")


def stream_token(cursor: TargetCursor) -> str:
    return page_tokens.encode(_STREAM_TOKEN, _bound_to(cursor), [cursor.after])


def _bound_to(cursor: TargetCursor) -> list[object]:
    return [cursor.segment_ids, cursor.sender_id, cursor.shard.index, cursor.shard.count]


def _shard(message: segment_pb2.Shard) -> Shard:
    if message.count < 0:
        raise InvalidInputError("shard.count", "must not be negative")
    if message.count > MAX_SHARDS:
        raise LimitExceededError("shard.count", limit=MAX_SHARDS, given=message.count)
    count = message.count or 1
    if not 0 <= message.index < count:
        raise InvalidInputError("shard.index", f"must be from 0 to {count - 1}")
    return Shard(message.index, count)


def _type(message: segment_pb2.Segment) -> SegmentType:
    found = _TYPES.get(message.type)
    if found is None:
        raise InvalidInputError("segment.type", "must be SEGMENT_TYPE_USER or SEGMENT_TYPE_CHANNEL")
    return found


def _filter(message: segment_pb2.Segment) -> dict[str, Any]:
    size = message.filter.ByteSize()
    if size > MAX_FILTER_BYTES:
        raise LimitExceededError("segment.filter", limit=MAX_FILTER_BYTES, given=size)
    document = read_filter(message.filter)
    if _messages_inside(document) > _MOST_MESSAGES_INSIDE:
        raise InvalidFilterError("filter", "nests deeper than a campaign's response can hold")
    return document


def _messages_inside(value: Any) -> int:
    """Returns how many protobuf messages deep the value nests."""
    if isinstance(value, dict):
        return 3 + max(map(_messages_inside, value.values()), default=0)
    if isinstance(value, list):
        return 2 + max(map(_messages_inside, value), default=0)
    return 0


def _definition(message: segment_pb2.Segment) -> Definition | None:
    which = message.WhichOneof("definition")
    if which is None:
        return None
    if which != "filter" and not getattr(message, which):
        raise InvalidInputError(f"segment.{which}", "can only be true")
    return Definition(which)


def _changed_fields(message: segment_pb2.Segment, paths: Sequence[str]) -> set[_Field]:
    for path in paths:
        if path != "*" and path not in _FIELDS:
            choice = ", ".join(_FIELDS)
            raise InvalidInputError("update_mask", f"{path!r} can't be changed, only {choice}")
    if "*" in paths:
        return set(_FIELDS)
    if paths:
        return {field for field in _FIELDS if field in paths}
    set_fields: dict[_Field, bool] = {
        "name": bool(message.name),
        "description": bool(message.description),
        "filter": message.WhichOneof("definition") == "filter",
    }
    return {field for field, is_set in set_fields.items() if is_set}
