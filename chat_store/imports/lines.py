"""Imports a user base in the Stream import format, in chunks that are all-or-nothing."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from chat_store.imports.fields import RecordError
from chat_store.imports.records import (
    Membership,
    Record,
    id_of,
    read_line,
    read_record,
)
from chat_store.models import Channel, Device, Message, User, WriteMode
from chat_store.store import ChatStore, ImportBatch, ImportStore

CHUNK_RECORDS = 2_000
CHUNK_BYTES = 8 * 1024 * 1024
MAX_ERRORS = 1_000
# records parsed before the event loop runs again: a few milliseconds
_SLICE = 200


@dataclass(frozen=True, slots=True)
class LineError:
    """A record that was not imported. `line` counts from 1, empty lines included.

    `item_id` is a channel's CID, a member's user id, else the id; empty if it can't be read.
    """

    line: int
    item_type: str
    item_id: str
    error: str


@dataclass(slots=True)
class ImportResult:
    """The durable part of an import. `errors` are the first 1,000 of `failed`, in line order."""

    lines: int = 0
    bytes: int = 0
    users: int = 0
    devices: int = 0
    channels: int = 0
    members: int = 0
    messages: int = 0
    failed: int = 0
    errors: list[LineError] = field(default_factory=list)


Report = Callable[[ImportResult], None]


async def import_lines(
    lines: AsyncIterable[bytes] | Iterable[bytes],
    store: ChatStore,
    mode: WriteMode,
    now: Callable[[], datetime],
    report: Report = lambda _: None,
) -> ImportResult:
    """Writes every good record and returns the bad ones. Calls `report` after each durable chunk.

    A record may refer to one that is stored or on an earlier line. If two have the same id, the
    last one counts, so importing a file again, also after a failure, has the effect of importing
    it once. An error of the database ends the import; the chunks before it are stored.
    """
    result = ImportResult()
    async for chunk in _chunks(lines):
        read: list[_Line] = []
        for start in range(0, len(chunk), _SLICE):
            for number, line in enumerate(chunk[start : start + _SLICE], result.lines + start + 1):
                read.append(_read(number, line))
            await asyncio.sleep(0)
        batch, errors = await _sorted_out(read, store.imports)
        await store.imports.write(batch, now(), mode)
        result.lines += len(chunk)
        result.bytes += sum(map(len, chunk))
        result.users += len(batch.users)
        result.devices += len(batch.devices)
        result.channels += len(batch.channels)
        result.members += len(batch.members)
        result.messages += len(batch.messages)
        result.failed += len(errors)
        result.errors += errors[: MAX_ERRORS - len(result.errors)]
        report(result)
    return result


async def _chunks(lines: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    async for line in _each(lines):
        chunk.append(line)
        size += len(line)
        if len(chunk) >= CHUNK_RECORDS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


async def _each(lines: AsyncIterable[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
    else:
        for line in lines:
            yield line


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    type: str = ""
    id: str = ""
    record: Record | None = None
    error: str = ""

    def failed(self, error: str) -> LineError:
        return LineError(self.number, self.type, self.id, error)


def _read(number: int, line: bytes) -> _Line:
    if number == 1:
        line = line.removeprefix(b"\xef\xbb\xbf")
    if not line.strip():
        return _Line(number)
    type_ = id_ = ""
    try:
        type_, data = read_line(line)
        id_ = id_of(type_, data)
        return _Line(number, type_, id_, read_record(type_, data))
    except RecordError as error:
        return _Line(number, type_, id_, error=str(error))


async def _sorted_out(
    lines: list[_Line], store: ImportStore
) -> tuple[ImportBatch, list[LineError]]:
    """Returns the records whose references exist, and the errors of the others."""
    records = [line.record for line in lines if line.record]
    users = set(await store.known_users({id_ for record in records for _, id_ in record.user_ids}))
    channels = set(await store.known_channels({record.cid for record in records if record.cid}))
    batch = ImportBatch()
    errors = []
    for line in lines:
        error = line.error
        if line.record:
            error = next(_missing(line.record, users, channels), "")
            if not error:
                _add(line.record, batch, users, channels)
        if error:
            errors.append(line.failed(error))
    return batch, errors


def _missing(record: Record, users: set[str], channels: set[str]) -> Iterator[str]:
    kind = _kind(record)
    for name, id_ in record.user_ids:
        if id_ not in users:
            yield f'reference error: {kind}.{name} "{id_}" doesn\'t exist'
    if record.cid is not None and record.cid not in channels:
        yield f'reference error: {kind}.channel "{record.cid}" doesn\'t exist'


def _kind(record: Record) -> str:
    match record.value:
        case User():
            return "user"
        case Device():
            return "device"
        case Channel():
            return "channel"
        case Membership():
            return "member"
        case Message():
            return "message"


def _add(record: Record, batch: ImportBatch, users: set[str], channels: set[str]) -> None:
    match record.value:
        case User() as user:
            batch.users.append(user)
            users.add(user.id)
        case Device() as device:
            batch.devices.append(device)
        case Channel() as channel:
            batch.channels.append(channel)
            channels.add(channel.cid)
        case Membership(member, last_read):
            batch.members.append(member)
            batch.last_read[member.cid, member.user_id] = last_read
        case Message() as message:
            batch.messages.append(message)
