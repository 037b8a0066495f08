"""Turns the Import call's stream of requests into the lines that the chat store imports."""

from collections.abc import AsyncIterator

from chat_store.imports.lines import ImportResult
from chat_store.models import WriteMode
from herald.chat.v1 import chat_service_pb2 as pb
from herald_rpc.wire.batches import write_mode


async def begun(
    requests: AsyncIterator[pb.ImportRequest],
) -> tuple[WriteMode, AsyncIterator[bytes]]:
    """Waits for the first message, which sets the mode of the whole stream.

    Takes a message from the stream only after the records of the previous one have been read.
    """
    first = await anext(requests, pb.ImportRequest())
    return write_mode(first.mode), _records(first, requests)


async def _records(
    first: pb.ImportRequest, others: AsyncIterator[pb.ImportRequest]
) -> AsyncIterator[bytes]:
    for record in first.records:
        yield record.encode()
    async for request in others:
        for record in request.records:
            yield record.encode()


def import_response(result: ImportResult) -> pb.ImportResponse:
    return pb.ImportResponse(
        imported=pb.ImportCounts(
            users=result.users,
            devices=result.devices,
            channels=result.channels,
            members=result.members,
            messages=result.messages,
        ),
        failed=result.failed,
        errors=[
            pb.ImportError(
                line=error.line,
                item_type=error.item_type,
                item_id=error.item_id,
                error=error.error,
            )
            for error in result.errors
        ],
    )
