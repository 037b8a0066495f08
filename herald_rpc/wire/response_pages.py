"""Records as an answer: no larger than a gRPC client receives unless told otherwise."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from google.protobuf.message import Message

from chat_store.paging import Page, PageRequest
from herald_rpc.wire.queries import Paging

# 4 MiB, less room for single fields beside the records
_MOST_BYTES = 4 * 1024 * 1024 - 256 * 1024
# a record's tag and length in the answer
_FRAME_BYTES = 6

T = TypeVar("T")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Answer(Generic[M]):
    records: Sequence[M]
    next_token: str
    prev_token: str


async def fitting_page(
    paging: Paging,
    fetch: Callable[[PageRequest], Awaitable[Page[T]]],
    encode: Callable[[T], M],
    *,
    beside: int = 0,
) -> Answer[M]:
    """The page that was asked for, or a shorter one where that would be too large.

    A page has at least one record, whatever its size. `beside` is how many bytes the rest of the
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
            reversed(records) if backward else records, beside=beside + sum(map(len, tokens))
        )
        if fitting == len(records):
            return Answer(records, *tokens)
        request = replace(request, size=fitting)


def fits(record: Message, *, beside: int) -> bool:
    """Whether an answer that has `beside` bytes already has room for the record, too."""
    return beside + record.ByteSize() + _FRAME_BYTES <= _MOST_BYTES


def fitting_count(records: Iterable[Message], *, beside: int) -> int:
    """How many of them fit into an answer that has `beside` bytes already, one at least."""
    count, total = 0, beside
    for record in records:
        if count and not fits(record, beside=total):
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
        if more <= _MOST_BYTES - total:
            total += more
            answered.append(whole)
        else:
            total = _MOST_BYTES
            answered.append(named)
    return answered
