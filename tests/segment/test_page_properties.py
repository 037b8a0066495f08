"""Any walk over the pages of segments and of targets meets what is there next to the last page."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import cmp_to_key
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from chat_store.sql.tables import users
from herald.chat.v1.sort_pb2 import SORT_DIRECTION_ASC, SORT_DIRECTION_DESC, Sort
from herald.segment.v1.segment_pb2 import Segment
from herald.segment.v1.segment_service_pb2 import QuerySegmentsRequest
from herald_rpc.wire.structs import to_struct
from segment_service.sql.tables import segments
from tests.segment.segment_server import CHANNEL, USER, SegmentServer

pytestmark = pytest.mark.nightly_on("postgres")

EXAMPLES = max(5, settings().max_examples // 3)
SIZES = st.integers(1, 4)
NAMES = st.text(st.sampled_from("aAbBé🦉"), min_size=1, max_size=2)

# the ids of a page, the token after it and the token before it
Answer = tuple[list[str], str, str]


class Walk:
    """Over pages of `ask(size, token)`, of whatever `ids` gives in order at that moment."""

    def __init__(
        self,
        data: st.DataObject,
        ask: Callable[[int, str], Awaitable[Answer]],
        ids: Callable[[], Sequence[str]],
        compare: Callable[[str, str], int],
    ) -> None:
        self._data = data
        self._ask = ask
        self._ids = ids
        self._compare = compare
        self.page: Answer = ([], "", "")

    async def begin(self) -> None:
        size = self._data.draw(SIZES, "size")
        self.page = await self._ask(size, "")
        assert self.page[0] == self._ids()[:size]

    async def turn(self) -> bool:
        """Goes on in either direction; false where both lead nowhere."""
        last, after, before = self.page
        ways = [way for way in ((1, after), (-1, before)) if way[1]]
        if not ways:
            return False
        side, token = self._data.draw(st.sampled_from(ways), "way")
        size = self._data.draw(SIZES, "size")
        edge = last and last[-1 if side > 0 else 0]
        beside = [id_ for id_ in self._ids() if not edge or self._compare(id_, edge) * side > 0]

        self.page = await self._ask(size, token)

        assert self.page[0] == (beside[:size] if side > 0 else beside[-size:])
        assert bool(self.page[1 if side > 0 else 2]) == (len(beside) > size)
        return True

    def edges(self) -> list[str]:
        """The ids that the page's tokens stand at."""
        return [*self.page[0][:1], *self.page[0][-1:]]


class Segments:
    """Those of the database, by id, and the fields that they are sorted on."""

    def __init__(self, service: SegmentServer, data: st.DataObject, wanted: Sequence[Sort]) -> None:
        self._service = service
        self._data = data
        self._wanted = wanted
        self._known: dict[str, Segment] = {}
        self._there: set[str] = set()

    async def add(self) -> None:
        draw = self._data.draw
        self._service.clock.move(draw(st.integers(0, 1), "seconds"))
        id_ = f"{draw(NAMES, 'id')}-{len(self._known)}"
        segment = Segment(
            id=id_, name=draw(NAMES, "name"), type=draw(st.sampled_from([USER, CHANNEL]))
        )
        how = draw(st.sampled_from(["list", "filter", "everyone"]), "definition")
        if how == "filter":
            segment.filter.CopyFrom(to_struct({"name": "Anna"}))
        if how == "everyone" and segment.type == USER:
            segment.all_users = True
        if how == "everyone" and segment.type == CHANNEL:
            segment.all_sender_channels = True
        created = await self._service.create(segment)
        if how == "list" and (many := draw(st.integers(0, 2), "targets")):
            cids = [f"messaging:{number}" for number in range(many)]
            created = (await self._service.add(id_, *cids)).segment
        self._known[id_] = created
        self._there.add(id_)

    async def change(self, edges: Collection[str]) -> None:
        change = self._data.draw(st.sampled_from(["nothing", "add", "delete", "delete an edge"]))
        if change == "add":
            await self.add()
        those = sorted(
            self._there.intersection(edges) if change == "delete an edge" else self._there
        )
        if change.startswith("delete") and those:
            gone = self._data.draw(st.sampled_from(those), "deleted")
            await self._service.delete(gone)
            self._there.remove(gone)

    def ids(self) -> list[str]:
        return sorted(self._there, key=cmp_to_key(self.compare))

    def compare(self, one: str, other: str) -> int:
        for sort in (*self._wanted, Sort(field="id", direction=SORT_DIRECTION_ASC)):
            here, there = self._value(one, sort.field), self._value(other, sort.field)
            if here != there:
                return -1 if (here < there) == (sort.direction == SORT_DIRECTION_ASC) else 1
        return 0

    def _value(self, id_: str, field: str) -> Any:
        value = getattr(self._known[id_], field)
        match field:
            case "type":
                return "user" if value == USER else "channel"
            case "created_at" | "updated_at":
                return value.ToMicroseconds()
            case "id" | "name":
                return value.encode()
            case _:
                return value


SORT_FIELDS = [
    *("id", "name", "type", "all_users", "all_sender_channels"),
    *("created_at", "updated_at", "size"),
]
SORTS = st.lists(
    st.builds(
        Sort,
        field=st.sampled_from(SORT_FIELDS),
        direction=st.sampled_from([SORT_DIRECTION_ASC, SORT_DIRECTION_DESC]),
    ),
    max_size=5,
    unique_by=lambda sort: sort.field,
)
NEWEST_FIRST = [Sort(field="created_at", direction=SORT_DIRECTION_DESC)]


@settings(max_examples=EXAMPLES)
@given(data=st.data(), sort=SORTS, first=st.integers(0, 6), turns=st.integers(0, 6))
async def test_segments_are_paged_to_and_fro_while_some_come_and_go(
    service: SegmentServer, data: st.DataObject, sort: list[Sort], first: int, turns: int
) -> None:
    async with service.database.transaction() as connection:
        await connection.execute(delete(segments))
    stored = Segments(service, data, sort or NEWEST_FIRST)
    for _ in range(first):
        await stored.add()

    async def ask(size: int, token: str) -> Answer:
        request = QuerySegmentsRequest(sort=sort, page_size=size, page_token=token)
        page = await service.stub.QuerySegments(request)
        ids = [segment.id for segment in page.segments]
        return ids, page.next_page_token, page.prev_page_token

    walk = Walk(data, ask, stored.ids, stored.compare)
    await walk.begin()
    for _ in range(turns):
        await stored.change(walk.edges())
        if not await walk.turn():
            break


class Targets:
    """Those of one segment, in ascending order or else descending, from `least` on."""

    def __init__(self, service: SegmentServer, data: st.DataObject, how: str) -> None:
        self._service = service
        self._data = data
        self._lists = how == "list"
        self._falling = data.draw(st.booleans(), "descending")
        self._least = data.draw(st.none() | NAMES, "least")
        self._segment_id = ""
        self._there: set[str] = set()
        # who was deleted once stays so
        self._known: set[str] = set()

    async def begin(self, how: str, first: Collection[str]) -> None:
        match how:
            case "list":
                self._segment_id = await self._service.listing()
            case "all users":
                self._segment_id = await self._service.all_users()
            case _:
                self._segment_id = await self._service.matching({"group": "x"})
        await self._add(sorted(first))

    async def _add(self, ids: Sequence[str]) -> None:
        self._there.update(ids)
        self._known.update(ids)
        if ids and self._lists:
            await self._service.add(self._segment_id, *ids)
        elif ids:
            await self._service.people(ids, group="x")

    async def change(self, edges: Collection[str]) -> None:
        fresh = self._data.draw(st.none() | NAMES, "added")
        if fresh and fresh not in self._known:
            await self._add([fresh])
        those = sorted(self._there.intersection(edges) or self._there)
        if not those or not self._data.draw(st.booleans(), "remove"):
            return
        gone = self._data.draw(st.sampled_from(those), "removed")
        self._there.remove(gone)
        if self._lists:
            await self._service.remove(self._segment_id, gone)
        else:
            await self._service.chat.users.delete([gone], self._service.clock())

    def ids(self) -> list[str]:
        least = (self._least or "").encode()
        found = [target for target in self._there if target.encode() >= least]
        return sorted(found, key=cmp_to_key(self.compare))

    def compare(self, one: str, other: str) -> int:
        rising = (one.encode() > other.encode()) - (one.encode() < other.encode())
        return -rising if self._falling else rising

    async def ask(self, size: int, token: str) -> Answer:
        direction = SORT_DIRECTION_DESC if self._falling else SORT_DIRECTION_ASC
        page = await self._service.query_targets(
            self._segment_id,
            filter=self._least and to_struct({"target_id": {"$gte": self._least}}),
            sort=[Sort(field="target_id", direction=direction)],
            page_size=size,
            page_token=token,
        )
        targets = [target.target_id for target in page.targets]
        return targets, page.next_page_token, page.prev_page_token


@pytest.mark.parametrize("how", ["list", "all users", "filter"])
@settings(max_examples=EXAMPLES)
@given(data=st.data(), first=st.frozensets(NAMES, max_size=9), turns=st.integers(0, 6))
async def test_targets_are_paged_to_and_fro_in_either_order_while_some_come_and_go(
    service: SegmentServer, how: str, data: st.DataObject, first: frozenset[str], turns: int
) -> None:
    async with service.database.transaction() as connection:
        await connection.execute(delete(users))
    targets = Targets(service, data, how)
    await targets.begin(how, first)

    walk = Walk(data, targets.ask, targets.ids, targets.compare)
    await walk.begin()
    for _ in range(turns):
        await targets.change(walk.edges())
        if not await walk.turn():
            break
