"""Each extreme value of each field is refused at its field, or comes back as it was given."""

import asyncio
import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from herald.chat.v1 import chat_service_pb2 as chat
from herald.chat.v1.sort_pb2 import Sort
from tests.segment.refusals import refusal_in
from tests.values.everything import PLACES, Everything, methods
from tests.values.extremes import FOX, variations
from tests.values.requests import named, populate, prepare, valid

CODES = grpc.StatusCode
AT_ONCE = 8

# of a text that is the id of nothing, or of something that another case has deleted
ACCEPTED = {CODES.NOT_FOUND, CODES.FAILED_PRECONDITION}

# a field that is refused because another one is given, and that other one
EITHER_OR = {
    "campaign.segment_ids[0]": "campaign.user_ids",
    "campaign.channel_template.members[0]": "campaign.channel_template.members_template",
}


# some thousand calls, on a machine that may be busy
@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("zoned_url", PLACES[:2], ids=" in ".join, indirect=True)
async def test_an_extreme_value_is_refused_at_its_field_or_comes_back(
    everything: Everything,
) -> None:
    await populate(everything)
    numbers = count(1)
    cases = [
        (method.name, path, value, f"case-{next(numbers)}", request)
        for method in methods()
        for path, value, request in variations(valid(method.name, "$"))
    ]
    problems: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)

    async def attempt(method: str, path: str, value: Any, id_: str, request: Message) -> None:
        async with turn:
            await prepare(everything, method, id_)
            problem = await problem_with(everything, path, value, named(request, id_))
            if problem:
                problems.append(f"{method} {path} = {value!r:.60}: {problem}")

    async with asyncio.TaskGroup() as group:
        for case in cases:
            group.create_task(attempt(*case))

    assert not problems, "\n".join(problems)


KEPT = (
    "-0.0",
    "0.1",
    "5e-324",
    "2.2250738585072014e-308",
    "9007199254740991",
    "true",
    "null",
    '""',
    f'"{FOX * 255}"',
    r'"\uffff\ufeff\u0001\ud83e\udd8a"',
    # inside the custom object and the list around it
    "[" * 18 + "]" * 18,
    '{"a":' * 18 + "1" + "}" * 18,
)
REFUSED = (
    "9007199254740994",
    "1e308",
    "1e400",
    "1" + 400 * "0",
    "NaN",
    "Infinity",
    r'"\u0000"',
    r'"\ud800"',
    r'"\udc00\ud800"',
    r'{"\u0000": 1}',
    "[" * 19 + "]" * 19,
    '{"a":' * 19 + "1" + "}" * 19,
    "[" * 100_000 + "]" * 100_000,
)


@pytest.mark.parametrize("zoned_url", PLACES[:2], ids=" in ".join, indirect=True)
async def test_an_extreme_value_is_imported_as_it_is_or_its_line_is_refused(
    everything: Everything,
) -> None:
    lines = [
        f'{{"type": "user", "data": {{"id": "user-{number:02}", "x": [{value}]}}}}'
        for number, value in enumerate((*KEPT, *REFUSED))
    ]

    result = await everything.imported(lines)

    query = chat.QueryUsersRequest(sort=[Sort(field="id")], page_size=1_000)
    users = (await everything.ask(query)).users
    assert [plain(user.custom)["x"] for user in users] == [[json.loads(value)] for value in KEPT]
    assert [error.line for error in result.errors] == [
        len(KEPT) + number for number in range(1, len(REFUSED) + 1)
    ]


async def problem_with(
    everything: Everything, path: str, value: Any, request: Message
) -> str | None:
    try:
        answer = await everything.ask(request)
    except grpc.aio.AioRpcError as error:
        return _wrong_refusal(error, path)
    for answered in _found_at(answer, path):
        # what is empty is unset, and may have a default
        if plain(value) and plain(answered) != plain(value):
            return f"answered as {answered!r:.60}"
    return None


def _wrong_refusal(error: grpc.aio.AioRpcError, path: str) -> str | None:
    if error.code() in ACCEPTED or (error.code(), path) == (CODES.ABORTED, "campaign.etag"):
        return None
    if error.code() is not CODES.INVALID_ARGUMENT:
        return f"{error.code()} {error.details()}"
    fields = refusal_in(error).fields
    # a filter is named alone, wherever it stands
    path = path.removeprefix("segment.") if path == "segment.filter" else path
    allowed = (path, EITHER_OR.get(path, path))
    if any(field.startswith(allowed) or path.startswith(field) for field in fields):
        return None
    return f"refused at {fields}"


def _found_at(answer: Any, path: str) -> Iterator[Any]:
    """What the answer has in the field of the path, if it has one."""
    first, _, rest = path.partition(".")
    name, _, index = first.partition("[")
    field = answer.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        if answer.DESCRIPTOR.name == "StartCampaignResponse":
            yield from _found_at(answer.campaign, path)
        return
    if field.name == "etag":
        return
    held = getattr(answer, name)
    if index:
        if not held:
            return
        held = held[0]
    if rest:
        yield from _found_at(held, rest)
    else:
        yield held


def plain(value: Any) -> Any:
    """Of a message its meaning: -0.0 is 0, times have microseconds."""
    match value:
        case Timestamp():
            return value.seconds, value.nanos // 1_000
        case Struct():
            return {key: plain(item) for key, item in value.fields.items()}
        case ListValue():
            return [plain(item) for item in value.values]
        case Value():
            kind = value.WhichOneof("kind") or "null_value"
            return None if kind == "null_value" else plain(getattr(value, kind))
        case _:
            return value
