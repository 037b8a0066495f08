"""Any text is only text: it comes back as it went in, and what can't be kept is refused."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from chat_store.imports.lines import import_lines
from chat_store.models import WriteMode
from herald.chat.v1 import chat_service_pb2 as pb
from herald.segment.v1 import segment_service_pb2 as segment_pb
from herald_rpc.wire.structs import to_struct
from tests.queries.query_clients import QueryClients, person
from tests.segment.refusals import CODES, refused
from tests.segment.segment_server import USER

pytestmark = pytest.mark.nightly_on("postgres")

TEXTS = {
    "quotes": 'O\'Neil "x" `y`',
    "a statement": "'; DROP TABLE users; --",
    "backslashes": "a\\b\\\\ \\u0041 \\n",
    "percent": "100%",
    "underscore": "a_b",
    "parameters": ":name $1 ? %s {x} $eq",
    "emoji": "👩\u200d👩\u200d👧 🇩🇪",
    "combining": "e\u0301e\u0302\u0323",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u202e\u0645\u0631\u062d\u0628\u0627\u202c",
    "white space": " \u00a0\u3000a ",
    "regular": "[a-z]+(b|c)*.^$",
    "longest": "🦊" * 255,
}
LOOK_ALIKES = ["100x", "axb", "ab", "é", "O Neil", "b", "zzz"]
EVERYONE = sorted([*TEXTS.values(), *LOOK_ALIKES], key=str.encode)


async def test_texts_travel_unharmed_as_targets(clients: QueryClients) -> None:
    segments = clients.segments
    id_ = await segments.listing(*EVERYONE)

    assert await segments.targets(id_) == EVERYONE
    for text in TEXTS.values():
        chosen = to_struct({"target_id": {"$in": [text]}})
        answer = await segments.query_targets(id_, filter=chosen)
        assert [target.target_id for target in answer.targets] == [text]
        assert await segments.exists(id_, text)
        assert not await segments.exists(id_, text[:-1] + "y")


async def test_texts_are_found_exactly_as_ids_names_custom_values_and_keys(
    clients: QueryClients,
) -> None:
    customs = {text: {"x": text, "in": {text: [text]}} for text in EVERYONE}
    await clients.given(*(person(text, name=text, custom=customs[text]) for text in EVERYONE))

    for text in TEXTS.values():
        for filter_ in _finding(text):
            assert await clients.users(filter_) == [text], filter_
        if any(map(str.isalnum, text)):
            assert text in await clients.users({"x": {"$autocomplete": text}})
    stored = (await clients.chat.QueryUsers(pb.QueryUsersRequest(page_size=100))).users
    assert {user.id: user.custom for user in stored} == {
        text: to_struct(custom) for text, custom in customs.items()
    }


async def test_texts_are_ordered_bytewise_in_columns_and_in_custom_objects(
    clients: QueryClients,
) -> None:
    await clients.given(*(person(text, name=text, custom={"x": text}) for text in EVERYONE))

    for place, text in enumerate(EVERYONE):
        for field in ("name", "x"):
            assert await clients.users({field: {"$gt": text}}) == EVERYONE[place + 1 :]


def _finding(text: str) -> Iterator[dict[str, Any]]:
    for field in ("id", "name", "x"):
        yield {field: text}
        yield {field: {"$in": [text, "nobody"]}}
        yield {field: {"$q": text[:200]}}
    yield {"in": {"$contains": {text: [text]}}}
    if not {".", "$"} & set(text):
        yield {f"in.{text}": {"$contains": text}}


async def test_texts_are_imported_unharmed(clients: QueryClients) -> None:
    """Ids of an import are plain, as the original's are; everything else is free."""
    texts = [*TEXTS.values()]
    lines = [
        json.dumps({"type": "user", "data": {"id": f"user-{n}", "name": text, "x": text}}).encode()
        for n, text in enumerate(texts)
    ]
    segments = clients.segments

    result = await import_lines(lines, segments.chat, WriteMode.REPLACE, segments.clock)

    assert (result.users, result.failed) == (len(texts), 0)
    for n, text in enumerate(texts):
        assert await clients.users({"name": text, "x": {"$in": [text]}}) == [f"user-{n}"]


async def test_ids_of_255_characters_are_told_apart_by_the_last(clients: QueryClients) -> None:
    """All of four bytes each, which a list of users and of targets holds as they are."""
    ids = ["🦊" * 254 + last for last in "ab🦊"]
    await clients.given(*map(person, ids))
    listed = await clients.segments.listing(*ids)

    assert await clients.users({"id": {"$in": ids[1:]}}) == ids[1:]
    assert await clients.segments.targets(listed) == ids


BAD = {"a surrogate": rb"\ud800", "surrogates turned round": rb"\udc00\ud800", "NUL": rb"\u0000"}
PLACES = [
    b'"id": "a", "name": "%s"',
    b'"id": "a", "x": "%s"',
    b'"id": "a", "x": {"%s": 1}',
    b'"id": "a%s"',
    b'"id": "a", "teams": ["%s"]',
]


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_an_import_refuses_each_line_with_a_text_that_can_not_be_kept(
    clients: QueryClients, bad: bytes
) -> None:
    data = [*(place % bad for place in PLACES), b'"id": "good"']
    lines = [b'{"type": "user", "data": {%s}}' % given for given in data]
    segments = clients.segments

    result = await import_lines(lines, segments.chat, WriteMode.REPLACE, segments.clock)

    assert [error.line for error in result.errors] == [1, 2, 3, 4, 5]
    assert await clients.users({}) == ["good"]


NUL: dict[str, tuple[dict[str, Any], str]] = {
    "as an operand": ({"name": "a\0"}, "filter.name"),
    "in a list": ({"x": {"$in": ["a", "\0"]}}, "filter.x.$in[1]"),
    "as a key": ({"$and": [{"a\0": 1}]}, "filter.$and[0]"),
    "deep": ({"x": {"a": {"b": "\0"}}}, "filter.x.a.b"),
    "searched": ({"name": {"$q": "\0"}}, "filter.name.$q"),
}


async def test_a_nul_in_a_filter_is_refused_at_its_field(clients: QueryClients) -> None:
    for filter_, field in NUL.values():
        for call in (clients.users(filter_), clients.segments.matching(filter_)):
            refusal = await refused(call)
            assert (refusal.reason, refusal.fields) == ("INVALID_FILTER", (field,))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_a_number_that_is_none_is_refused_at_its_field(
    clients: QueryClients, number: float
) -> None:
    filter_ = {"$or": [{"id": "a"}, {"age": {"$in": [1, number]}}]}
    users = pb.UpsertUsersRequest(users=[person("a"), person("b", custom={"x": [number]})])

    queried = await refused(clients.users(filter_))
    created = await refused(clients.segments.matching(filter_))
    stored = await refused(clients.chat.UpsertUsers(users))

    assert queried.fields == created.fields == ("filter.$or[1].age.$in[1]",)
    assert {queried.code, created.code, stored.code} == {CODES.INVALID_ARGUMENT}
    assert stored.fields == ("users[1].custom.x[0]",)


@pytest.mark.parametrize(
    "broken", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80"], ids=["no UTF-8", "a surrogate", "overlong"]
)
async def test_bytes_that_are_no_text_are_a_malformed_request(
    clients: QueryClients, broken: bytes
) -> None:
    placeholder = b"x" * len(broken)
    text = placeholder.decode()
    requests: dict[str, Any] = {
        "GetUser": pb.GetUserRequest(id=text),
        "UpsertUsers": pb.UpsertUsersRequest(users=[person("a", name=text)]),
        "QueryUsers": pb.QueryUsersRequest(filter=Struct(fields=to_struct({"a": text}).fields)),
    }
    for method, request in requests.items():
        raw = request.SerializeToString().replace(placeholder, broken)
        call: Any = clients.channel.unary_unary(f"/herald.chat.v1.ChatService/{method}", None, None)

        refusal = await refused(call(raw))

        assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "MALFORMED_REQUEST")
    assert await clients.users({}) == []


CASES = {
    "sharp s": ("Straße", "STRAẞE", "STRASSE"),
    "dotted I": ("İzmir", "İZMIR", "izmir"),
    "final sigma": ("Ὀδυσσεύς", "ὈΔΥΣΣΕΎΣ", "Ὀδυσσεύδ"),
    "Kelvin": ("300 \u212a", "300 k", "300 c"),
    "full width": (
        "\uff28\uff45\uff52\uff41\uff4c\uff44",
        "\uff48\uff25\uff32\uff21\uff2c\uff24",
        "Herald",
    ),
    "digraph": ("ǅungla", "ǄUNGLA", "DŽUNGLA"),
    "Deseret": ("\U00010400", "\U00010428", "\U00010401"),
    "Cherokee": ("\u13a0", "ꭰ", "\u13a1"),
}


@pytest.mark.parametrize("operator", ["$q", "$autocomplete"])
async def test_any_case_is_unicode_s_character_by_character(
    clients: QueryClients, operator: str
) -> None:
    """A composed é is not an e with its accent, and ß no ss: a text is found as long as it is."""
    people = {f"user-{n}": text for n, (text, *_) in enumerate(CASES.values())}
    await clients.given(*(person(id_, name=x, custom={"x": [x]}) for id_, x in people.items()))

    for id_, (text, other_case, another) in zip(people, CASES.values(), strict=True):
        for field in ("name", "x"):
            assert await clients.users({field: {operator: text}}) == [id_]
            assert await clients.users({field: {operator: other_case}}) == [id_]
            assert await clients.users({field: {operator: another}}) == []


async def test_a_segment_keeps_its_own_texts_unharmed(clients: QueryClients) -> None:
    filter_ = {"$or": [{"x": text} for text in TEXTS.values()]}
    id_ = await clients.segments.matching(filter_, USER)

    answer = await clients.segments.stub.GetSegment(segment_pb.GetSegmentRequest(id=id_))

    assert answer.segment.filter == to_struct(filter_)
