"""Converts chat messages from the chat store's values to protobuf messages."""

from chat_store.errors import InvalidInputError
from chat_store.ids import MAX_CID, MAX_ID
from chat_store.models import Message
from herald.chat.v1 import chat_pb2 as pb
from herald.chat.v1 import chat_service_pb2 as service_pb
from herald_rpc.wire.fields import required, timestamp
from herald_rpc.wire.structs import to_struct


def message_to_proto(message: Message) -> pb.Message:
    return pb.Message(
        id=message.id,
        cid=message.cid,
        user_id=message.user_id,
        type=message.type,
        text=message.text,
        attachments=[to_struct(attachment) for attachment in message.attachments],
        poll_id=message.poll_id or "",
        custom=to_struct(message.custom),
        searchable=message.searchable,
        campaign_id=message.campaign_id or "",
        created_at=timestamp(message.created_at),
    )


def messages_scope(request: service_pb.QueryMessagesRequest) -> tuple[str, str]:
    """Returns the scope of the query, `cid` or `campaign_id`, and its value."""
    scope = request.WhichOneof("scope")
    if scope is None:
        raise InvalidInputError("scope", "is required: cid or campaign_id")
    return scope, required(getattr(request, scope), scope, MAX_CID if scope == "cid" else MAX_ID)
