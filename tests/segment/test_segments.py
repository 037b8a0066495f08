"""A segment is created, read, changed, found and deleted as its contract says."""

import asyncio
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from herald.chat.v1.sort_pb2 import SORT_DIRECTION_ASC, SORT_DIRECTION_DESC, Sort
from herald.segment.v1.segment_pb2 import Segment
from herald.segment.v1.segment_service_pb2 import (
    DeleteSegmentRequest,
    QuerySegmentsRequest,
    QuerySegmentsResponse,
    UpdateSegmentRequest,
)
from herald_rpc.wire.fields import timestamp
from herald_rpc.wire.structs import json_object, to_struct
from tests.segment.refusals import CODES, refused
from tests.segment.segment_server import CHANNEL, NOON, USER, SegmentServer

pytestmark = pytest.mark.nightly_on("postgres")

AMERICANS = {"country": "USA", "age": {"$gte": 30}}

DEFINITIONS = {
    "list": Segment(type=USER),
    "list of channels": Segment(type=CHANNEL),
    "filter": Segment(type=USER, filter=to_struct(AMERICANS)),
    "all users": Segment(type=USER, all_users=True),
    "all sender channels": Segment(type=CHANNEL, all_sender_channels=True),
}


def named(id_: str, base: Segment, **changes: Any) -> Segment:
    segment = Segment(id=id_, **changes)
    segment.MergeFrom(base)
    return segment


async def updated(service: SegmentServer, mask: list[str] | None = None, **changes: Any) -> Segment:
    update_mask = None if mask is None else FieldMask(paths=mask)
    request = UpdateSegmentRequest(segment=Segment(**changes), update_mask=update_mask)
    return (await service.stub.UpdateSegment(request)).segment


async def found(service: SegmentServer, filter_: dict[str, Any], **arguments: Any) -> list[str]:
    response = await query(service, filter_, **arguments)
    return [segment.id for segment in response.segments]


async def query(
    service: SegmentServer, filter_: dict[str, Any], **arguments: Any
) -> QuerySegmentsResponse:
    request = QuerySegmentsRequest(filter=to_struct(filter_), **arguments)
    return await service.stub.QuerySegments(request)


@pytest.mark.parametrize("base", DEFINITIONS.values(), ids=DEFINITIONS)
async def test_a_new_segment_is_as_given_and_stays_so(
    service: SegmentServer, base: Segment
) -> None:
    given = named("s", base, name="Ünïcode 🦉", description="what for")

    created = await service.create(given)

    expected = Segment(
        created_at=timestamp(NOON),
        created_by="local",
        updated_at=timestamp(NOON),
        updated_by="local",
    )
    expected.MergeFrom(given)
    assert created == expected
    assert await service.get("s") == expected


async def test_output_only_fields_are_ignored_on_input(service: SegmentServer) -> None:
    long_ago = timestamp(NOON.replace(year=1999))

    created = await service.create(
        Segment(
            id="s",
            type=USER,
            size=7,
            size_updated_at=long_ago,
            created_at=long_ago,
            updated_at=long_ago,
            deleted_at=long_ago,
            created_by="somebody",
            updated_by="somebody",
        )
    )

    assert created == Segment(
        id="s",
        type=USER,
        created_at=timestamp(NOON),
        created_by="local",
        updated_at=timestamp(NOON),
        updated_by="local",
    )


async def test_a_segment_without_an_id_gets_one_each_time(service: SegmentServer) -> None:
    first, second = [await service.create(Segment(type=USER)) for _ in range(2)]

    assert first.id
    assert first.id != second.id


async def test_the_longest_texts_are_taken_in_characters_not_bytes(service: SegmentServer) -> None:
    longest = Segment(id="ü" * 255, type=USER, name="ü" * 128, description="ü" * 256)

    created = await service.create(longest)

    assert (created.id, created.name, created.description) == ("ü" * 255, "ü" * 128, "ü" * 256)


@pytest.mark.parametrize("base", DEFINITIONS.values(), ids=DEFINITIONS)
async def test_creating_the_same_again_returns_what_is_there(
    service: SegmentServer, base: Segment
) -> None:
    created = await service.create(named("s", base, name="n"))
    service.clock.move(60)

    assert await service.create(named("s", base, name="n")) == created


async def test_a_repeated_create_returns_the_list_as_it_has_grown(service: SegmentServer) -> None:
    await service.listing("anna", id_="s")

    assert (await service.create(Segment(id="s", type=USER))).size == 1


async def test_a_filter_is_the_same_whatever_the_order_of_its_keys(service: SegmentServer) -> None:
    forwards, backwards = AMERICANS, dict(reversed(AMERICANS.items()))
    await service.matching(forwards, id_="s")

    await service.matching(backwards, id_="s")


OTHER_CONTENT = {
    "type": Segment(id="s", type=CHANNEL, name="n", filter=to_struct(AMERICANS)),
    "name": Segment(id="s", type=USER, name="m", filter=to_struct(AMERICANS)),
    "description": Segment(
        id="s", type=USER, name="n", description="d", filter=to_struct(AMERICANS)
    ),
    "filter": Segment(id="s", type=USER, name="n", filter=to_struct({"country": "DE"})),
    "no definition": Segment(id="s", type=USER, name="n"),
    "all users": Segment(id="s", type=USER, name="n", all_users=True),
}


@pytest.mark.parametrize("other", OTHER_CONTENT.values(), ids=OTHER_CONTENT)
async def test_an_id_with_other_content_is_taken(service: SegmentServer, other: Segment) -> None:
    await service.create(Segment(id="s", type=USER, name="n", filter=to_struct(AMERICANS)))

    refusal = await refused(service.create(other))

    assert (refusal.code, refusal.reason) == (CODES.ALREADY_EXISTS, "SEGMENT_ALREADY_EXISTS")
    assert refusal.metadata == {"segment_id": "s"}
    assert refusal.resource == ("herald.Segment", "s")


async def test_the_id_of_a_deleted_segment_stays_taken(service: SegmentServer) -> None:
    await service.listing(id_="s")
    await service.delete("s")

    refusal = await refused(service.create(Segment(id="s", type=USER)))

    assert (refusal.code, refusal.reason) == (CODES.ALREADY_EXISTS, "SEGMENT_ALREADY_EXISTS")


async def test_of_many_that_create_the_same_id_one_content_wins(service: SegmentServer) -> None:
    calls = (
        service.create(Segment(id="s", type=USER, name=f"name {number % 2}"))
        for number in range(10)
    )

    answers = await asyncio.gather(*calls, return_exceptions=True)

    winner = await service.get("s")
    created = [answer for answer in answers if isinstance(answer, Segment)]
    assert created == [winner] * 5


async def test_an_update_changes_what_is_set_and_moves_updated_at(service: SegmentServer) -> None:
    await service.create(Segment(id="s", type=USER, name="n", description="d", all_users=True))
    service.clock.move(60)

    segment = await updated(service, id="s", description="new")

    assert segment == Segment(
        id="s",
        type=USER,
        name="n",
        description="new",
        all_users=True,
        created_at=timestamp(NOON),
        created_by="local",
        updated_at=timestamp(service.clock()),
        updated_by="local",
    )
    assert await service.get("s") == segment


async def test_an_update_that_changes_nothing_moves_nothing(service: SegmentServer) -> None:
    before = await service.create(Segment(id="s", type=USER, name="n"))
    service.clock.move(60)

    assert await updated(service, id="s", name="n") == before


async def test_each_change_moves_updated_at_even_under_a_clock_that_goes_back(
    service: SegmentServer,
) -> None:
    before = await service.create(Segment(id="s", type=USER))
    service.clock.move(-60)

    first = await updated(service, id="s", name="a")
    second = await updated(service, id="s", name="b")

    times = [segment.updated_at.ToNanoseconds() for segment in (before, first, second)]
    assert times == sorted(set(times))


async def test_a_mask_names_what_changes_and_can_empty_it(service: SegmentServer) -> None:
    await service.create(Segment(id="s", type=USER, name="n", description="d"))

    segment = await updated(service, ["description"], id="s", name="ignored")

    assert (segment.name, segment.description) == ("n", "")


async def test_a_star_replaces_everything_that_can_change(service: SegmentServer) -> None:
    await service.create(
        Segment(id="s", type=USER, name="n", description="d", filter=to_struct(AMERICANS))
    )

    segment = await updated(service, ["*"], id="s", filter=to_struct({"country": "DE"}))

    assert (segment.name, segment.description) == ("", "")
    assert json_object(segment.filter, "") == {"country": "DE"}


async def test_a_star_empties_a_list_segment_that_has_no_filter_to_lose(
    service: SegmentServer,
) -> None:
    await service.create(Segment(id="s", type=USER, name="n"))

    assert (await updated(service, ["*"], id="s", description="d")).name == ""


async def test_a_new_filter_replaces_the_whole_old_one_at_once(service: SegmentServer) -> None:
    await service.people(["anna"], country="USA")
    await service.people(["bert"], country="DE")
    await service.matching({"country": "USA", "age": 3}, id_="s")

    await updated(service, id="s", filter=to_struct({"country": "DE"}))

    assert await service.targets("s") == ["bert"]


async def test_what_never_changes_may_be_repeated_in_an_update(service: SegmentServer) -> None:
    await service.create(Segment(id="s", type=USER, all_users=True))

    segment = await updated(service, id="s", type=USER, all_users=True, name="n")

    assert segment.name == "n"


FORBIDDEN_UPDATES: dict[str, tuple[str, Segment, list[str] | None, str]] = {
    "another type": ("list", Segment(type=CHANNEL), None, "segment.type"),
    "a filter for a list": (
        "list",
        Segment(filter=to_struct({"country": "DE"})),
        None,
        "segment.filter",
    ),
    "all users for a list": ("list", Segment(all_users=True), None, "segment.all_users"),
    "all users for a filter": ("filter", Segment(all_users=True), None, "segment.all_users"),
    "a filter for all users": (
        "all users",
        Segment(filter=to_struct({"country": "DE"})),
        None,
        "segment.filter",
    ),
    "a filter taken away": ("filter", Segment(), ["filter"], "segment.filter"),
    "a filter taken away by a star": ("filter", Segment(name="n"), ["*"], "segment.filter"),
    "the type by mask": ("list", Segment(type=USER), ["type"], "update_mask"),
    "the id by mask": ("list", Segment(), ["id"], "update_mask"),
    "the size by mask": ("list", Segment(size=3), ["size"], "update_mask"),
    "an unknown path": ("list", Segment(), ["name", "nickname"], "update_mask"),
    "an inner path": ("filter", Segment(), ["filter.country"], "update_mask"),
}


@pytest.mark.parametrize(
    ("base", "change", "mask", "field"), FORBIDDEN_UPDATES.values(), ids=FORBIDDEN_UPDATES
)
async def test_an_update_of_anything_else_is_refused(
    service: SegmentServer, base: str, change: Segment, mask: list[str] | None, field: str
) -> None:
    before = await service.create(named("s", DEFINITIONS[base], name="n"))
    request = UpdateSegmentRequest(
        segment=named("s", change), update_mask=FieldMask(paths=mask or [])
    )

    refusal = await refused(service.stub.UpdateSegment(request))

    assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == (field,)
    assert await service.get("s") == before


async def test_a_deleted_segment_is_still_known_with_the_time_of_its_end(
    service: SegmentServer,
) -> None:
    await service.listing("anna", id_="s")
    service.clock.move(60)

    await service.delete("s")

    deleted = await service.get("s")
    assert deleted.deleted_at == deleted.updated_at == timestamp(service.clock())
    assert deleted.size == 1


async def test_deleting_twice_is_no_error_and_changes_nothing(service: SegmentServer) -> None:
    await service.listing(id_="s")
    await service.delete("s")
    deleted = await service.get("s")
    service.clock.move(60)

    await service.delete("s")

    assert await service.get("s") == deleted


async def test_a_deleted_segment_can_not_be_updated(service: SegmentServer) -> None:
    await service.listing(id_="s")
    await service.delete("s")

    refusal = await refused(updated(service, id="s", name="n"))

    assert (refusal.code, refusal.reason) == (CODES.FAILED_PRECONDITION, "SEGMENT_DELETED")
    assert refusal.metadata == {"segment_id": "s"}
    assert refusal.preconditions == (("SEGMENT_DELETED", "s"),)


async def test_queries_find_deleted_segments_only_on_request(service: SegmentServer) -> None:
    await service.listing(id_="gone")
    await service.listing(id_="here")
    await service.delete("gone")

    assert await found(service, {}) == ["here"]
    assert await found(service, {}, show_deleted=True) == ["gone", "here"]


FILTERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, ["all", "chan", "list", "us"]),
    "id": ({"id": {"$in": ["us", "list", "x"]}}, ["list", "us"]),
    "name": ({"name": "VIPs"}, ["list"]),
    "word of the name": ({"name": {"$autocomplete": "amer"}}, ["us"]),
    "type": ({"type": "channel"}, ["chan"]),
    "all users": ({"all_users": True}, ["all"]),
    "all sender channels": ({"all_sender_channels": {"$ne": False}}, ["chan"]),
    "created": ({"created_at": {"$gt": "2026-03-01T12:01:30Z"}}, ["all", "chan"]),
    "updated": ({"updated_at": {"$lte": "2026-03-01T12:00:00Z"}}, ["list"]),
    "size": ({"size": {"$gte": 2}}, ["list"]),
    "alternatives": ({"$or": [{"size": 2}, {"all_users": True}]}, ["all", "list"]),
}


@pytest.mark.parametrize(("filter_", "expected"), FILTERS.values(), ids=FILTERS)
async def test_segments_are_found_by_each_of_their_fields(
    service: SegmentServer, filter_: dict[str, Any], expected: list[str]
) -> None:
    for segment in (
        Segment(id="list", type=USER, name="VIPs"),
        Segment(id="us", type=USER, name="The Americans", filter=to_struct(AMERICANS)),
        Segment(id="all", type=USER, all_users=True),
        Segment(id="chan", type=CHANNEL, all_sender_channels=True),
    ):
        await service.create(segment)
        service.clock.move(60)
    await service.add("list", "anna", "bert")

    assert await found(service, filter_, sort=[Sort(field="id")]) == expected


async def test_the_newest_come_first_and_ties_are_broken_by_id(service: SegmentServer) -> None:
    for minute in ("ca", "b"):
        for id_ in minute:
            await service.listing(id_=id_)
        service.clock.move(60)

    assert await found(service, {}) == ["b", "a", "c"]


@pytest.mark.parametrize("page_size", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "sort",
    [
        [],
        [Sort(field="name", direction=SORT_DIRECTION_ASC)],
        [Sort(field="name", direction=SORT_DIRECTION_DESC), Sort(field="size")],
        [Sort(field="type", direction=SORT_DIRECTION_DESC)],
        [Sort(field="all_users"), Sort(field="created_at", direction=SORT_DIRECTION_DESC)],
        [Sort(field="id", direction=SORT_DIRECTION_DESC)],
    ],
    ids=["newest first", "name", "name down", "type down", "flag and age", "id down"],
)
async def test_pages_forth_and_back_are_the_whole_in_order(
    service: SegmentServer, sort: list[Sort], page_size: int
) -> None:
    for number in range(7):
        type_ = USER if number % 3 else CHANNEL
        await service.create(Segment(id=f"s{number}", type=type_, name="xyz"[number % 3]))
        service.clock.move(number % 2)
    whole = await found(service, {}, sort=sort, page_size=100)
    assert len(whole) == 7

    forth, tokens, token = [], [], ""
    while True:
        page = await query(service, {}, sort=sort, page_size=page_size, page_token=token)
        forth += [segment.id for segment in page.segments]
        tokens.append(page.prev_page_token)
        token = page.next_page_token
        if not token:
            break
    back = [segment.id for segment in page.segments]
    while page.prev_page_token:
        page = await query(
            service, {}, sort=sort, page_size=page_size, page_token=page.prev_page_token
        )
        back = [segment.id for segment in page.segments] + back

    assert forth == back == whole
    assert tokens[0] == ""
    assert all(tokens[1:])


async def test_too_large_a_page_is_taken_as_the_largest(service: SegmentServer) -> None:
    for number in range(101):
        await service.listing(id_=f"s{number:03}")

    assert len(await found(service, {})) == 25
    assert len(await found(service, {}, page_size=1000)) == 100


@pytest.mark.parametrize(
    "other",
    [
        {"filter": to_struct({"type": "user"})},
        {"sort": [Sort(field="name")]},
        {"show_deleted": True},
    ],
    ids=["filter", "sort", "show_deleted"],
)
async def test_a_page_token_is_bound_to_the_other_arguments(
    service: SegmentServer, other: dict[str, Any]
) -> None:
    for id_ in "ab":
        await service.listing(id_=id_)
    token = (await query(service, {}, page_size=1)).next_page_token

    refusal = await refused(
        service.stub.QuerySegments(QuerySegmentsRequest(page_token=token, **other))
    )

    assert (refusal.code, refusal.reason) == (CODES.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
    assert refusal.fields == ("page_token",)


async def test_a_page_is_shorter_where_it_would_be_too_large_to_receive(
    service: SegmentServer,
) -> None:
    ids = [f"s{number}" for number in range(5)]
    for id_ in ids:
        await service.matching({"id": {"$in": ["x" * 1000] * 1000}}, id_=id_)

    first = await query(service, {}, sort=[Sort(field="id")])
    second = await query(service, {}, sort=[Sort(field="id")], page_token=first.next_page_token)

    assert [segment.id for segment in (*first.segments, *second.segments)] == ids
    assert 1 < len(first.segments) < 5


async def test_deleting_an_unknown_segment_is_refused(service: SegmentServer) -> None:
    refusal = await refused(service.stub.DeleteSegment(DeleteSegmentRequest(id="x")))

    assert (refusal.code, refusal.reason) == (CODES.NOT_FOUND, "SEGMENT_NOT_FOUND")
