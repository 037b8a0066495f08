"""Pages of records, cut to the size of a response that gRPC clients receive by default."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from google.protobuf.message import Message

from chat_store.paging import Page, PageRequest
from herald_rpc.wire.budget import MAX_MESSAGE_BYTES
from herald_rpc.wire.queries import Paging

# 256 KiB are left for the fields besides the records
_MAX_BYTES = MAX_MESSAGE_BYTES - 256 * 1024
# a record's tag and length in the response
_FRAME_BYTES = 6

T = TypeVar("T")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class ResponsePage(Generic[M]):
    records: Sequence[M]
    next_token: str
    prev_token: str


async def fitting_page(
    paging: Paging,
    fetch: Callable[[PageRequest], Awaitable[Page[T]]],
    encode: Callable[[T], M],
    *,
    reserved_bytes: int = 0,
) -> ResponsePage[M]:
    """Returns the requested page, or a shorter one if that would be too large.

    A page has at least one record, whatever its size. `reserved_bytes` is the size of the rest of
    the response without the tokens, which may be large because they hold the sorted values.
    """
    request = paging.request
    while True:
        page = await fetch(request)
        records = [encode(item) for item in page.items]
        tokens = paging.tokens(page)
        backward = request.cursor is not None and request.cursor.backward
        # nearest to the cursor first, because a shorter page has those
        fitting = fitting_count(
            reversed(records) if backward else records,
            reserved_bytes=reserved_bytes + sum(map(len, tokens)),
        )
        if fitting == len(records):
            return ResponsePage(records, *tokens)
        request = replace(request, size=fitting)


def fits(record: Message, *, reserved_bytes: int) -> bool:
    """Returns whether the record fits into a response of `reserved_bytes` so far."""
    return reserved_bytes + record.ByteSize() + _FRAME_BYTES <= _MAX_BYTES


def fitting_count(records: Iterable[Message], *, reserved_bytes: int) -> int:
    """Returns how many records fit into a response of `reserved_bytes` so far, at least one."""
    count, total = 0, reserved_bytes
    for record in records:
        if count and not fits(record, reserved_bytes=total):
            break
        total += record.ByteSize() + _FRAME_BYTES
        count += 1
    return count


def whole_or_named(records: Iterable[tuple[M, M]]) -> list[M]:
    """Returns the records of a write's response, from pairs of the whole and a short record.

    If all whole ones would be too large, only the first are whole and the others just named:
    records that have been written can't be refused any more.
    """
    pairs = list(records)
    total = sum(named.ByteSize() + _FRAME_BYTES for _, named in pairs)
    answered = []
    for whole, named in pairs:
        more = whole.ByteSize() - named.ByteSize()
        if more <= _MAX_BYTES - total:
            total += more
            answered.append(whole)
        else:
            total = _MAX_BYTES
            answered.append(named)
    return answered
