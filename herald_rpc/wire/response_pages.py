"""Records as an answer: no larger than a gRPC client receives unless told otherwise."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from google.protobuf.message import Message

from chat_store.paging import Page, PageRequest
from herald_rpc.wire.budget import MAX_MESSAGE_BYTES
from herald_rpc.wire.queries import Paging

# less room for single fields beside the records
_MAX_BYTES = MAX_MESSAGE_BYTES - 256 * 1024
# a record's tag and length in the answer
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
    """The page that was asked for, or a shorter one where that would be too large.

    A page has at least one record, whatever its size. `reserved_bytes` is how many bytes the rest of the
    answer has, apart from the tokens: these may be large, because they hold the sorted values.
    """
    request = paging.request
    while True:
        page = await fetch(request)
        records = [encode(item) for item in page.items]
        tokens = paging.tokens(page)
        backward = request.cursor is not None and request.cursor.backward
        # nearest to the cursor first: those are the ones that a shorter page has, too
        fitting = fitting_count(
            reversed(records) if backward else records,
            reserved_bytes=reserved_bytes + sum(map(len, tokens)),
        )
        if fitting == len(records):
            return ResponsePage(records, *tokens)
        request = replace(request, size=fitting)


def fits(record: Message, *, reserved_bytes: int) -> bool:
    """Whether an answer that has `reserved_bytes` bytes already has room for the record, too."""
    return reserved_bytes + record.ByteSize() + _FRAME_BYTES <= _MAX_BYTES


def fitting_count(records: Iterable[Message], *, reserved_bytes: int) -> int:
    """How many of them fit into an answer that has `reserved_bytes` bytes already, one at least."""
    count, total = 0, reserved_bytes
    for record in records:
        if count and not fits(record, reserved_bytes=total):
            break
        total += record.ByteSize() + _FRAME_BYTES
        count += 1
    return count


def whole_or_named(records: Iterable[tuple[M, M]]) -> list[M]:
    """The answer to a write: its records, each with the short one that only names it.

    The first ones are whole and the others only named where all of them would be too large: what
    has been written can't be refused any more.
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
