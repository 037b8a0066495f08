"""Any audience, cut and resumed anywhere and on any server, is the whole once and in order."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from chat_store.ids import user_target_problem
from chat_store.models import Channel, Member, User
from chat_store.sql.tables import channels, members, users
from chat_store.store import ChannelDraft
from herald.segment.v1 import segment_pb2
from herald.segment.v1.segment_pb2 import Shard
from herald.segment.v1.segment_service_pb2 import (
    AddTargetsRequest,
    CreateSegmentRequest,
    StreamTargetsRequest,
    StreamTargetsResponse,
)
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub
from tests.harness import forkserver
from tests.harness.processes import Server, free_address, open_channel
from tests.segment.refusals import refused
from tests.segment.segment_server import CHANNEL, USER, SegmentServer, start_segment_server

pytestmark = pytest.mark.nightly_on("postgres")

SENDER = "the sender"
GROUPS = "xyz"
EXAMPLES = max(5, settings().max_examples // 3)
names = st.text(st.sampled_from("aAbB:é🦉 -~"), min_size=1, max_size=3).filter(
    lambda name: user_target_problem(name) is None
)
cids = names.map(lambda name: "messaging:" + "".join(f"{ord(letter):x}" for letter in name))


@dataclass(frozen=True)
class Added:
    """What comes into being between two pages: listed targets, and people or channels."""

    listed: frozenset[str] = frozenset()
    # by id: the group that filters ask for, and whether the sender is in the channel
    made: dict[str, tuple[str, bool]] = field(default_factory=dict)


@dataclass(frozen=True)
class Leg:
    """One stream: so many pages are read on one of the servers, then it is cut."""

    on_replica: bool
    page_size: int
    pages: int
    added_before: Added


def additions(ids: st.SearchStrategy[str], most: int) -> st.SearchStrategy[Added]:
    made = st.tuples(st.sampled_from(GROUPS), st.booleans())
    return st.builds(
        Added, st.frozensets(ids, max_size=most), st.dictionaries(ids, made, max_size=most)
    )


def journeys(ids: st.SearchStrategy[str]) -> st.SearchStrategy[list[Leg]]:
    leg = st.builds(Leg, st.booleans(), st.integers(1, 6), st.integers(0, 3), additions(ids, 2))
    return st.lists(leg, max_size=5)


@dataclass
class Audience:
    """Segments of one type, and who is in them."""

    service: SegmentServer
    type: "segment_pb2.SegmentType.ValueType"
    groups: Collection[str]
    everyone: bool
    segments: list[str] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    targets: set[str] = field(default_factory=set)

    async def begin(self) -> None:
        """Two lists, a filter for each group, and if `everyone` all users or sender's channels."""
        service = self.service
        async with service.database.transaction() as connection:
            for table in (users, channels, members):
                await connection.execute(delete(table))
        self.segments = [await service.listing(type_=self.type) for _ in range(2)]
        for group in self.groups:
            self.segments.append(await service.matching({"group": group}, self.type))
        if self.everyone and self.type == USER:
            self.segments.append(await service.all_users())
        if self.type == CHANNEL:
            await service.people([SENDER])
        if self.everyone and self.type == CHANNEL:
            self.segments.append(await service.senders_channels())

    async def add(self, added: Added) -> None:
        listed = sorted(added.listed)
        middle = len(listed) // 2
        # the lists overlap
        for segment_id, part in zip(self.segments, (listed[: middle + 1], listed[middle:])):  # noqa: B905 - the rest are no lists
            if part:
                await self.service.add(segment_id, *part)
        self.targets |= added.listed
        new = {id_: how for id_, how in added.made.items() if id_ not in self.made}
        self.made |= set(new)
        if self.type == USER:
            await self._make_users(new)
        else:
            await self._make_channels(new)

    async def _make_users(self, new: dict[str, tuple[str, bool]]) -> None:
        people = [User(id=id_, custom={"group": group}) for id_, (group, _) in new.items()]
        await self.service.users(*people)
        self.targets |= {
            i for i, (group, _) in new.items() if self.everyone or group in self.groups
        }

    async def _make_channels(self, new: dict[str, tuple[str, bool]]) -> None:
        for cid, (group, has_sender) in new.items():
            type_, _, id_ = cid.partition(":")
            draft = ChannelDraft(Channel(type=type_, id=id_, custom={"group": group}))
            await self.service.chat.channels.upsert([draft], self.service.clock())
            if has_sender:
                sender = Member(cid=cid, user_id=SENDER)
                await self.service.chat.channels.add_members(cid, [sender], self.service.clock())
            if group in self.groups or (self.everyone and has_sender):
                self.targets.add(cid)

    def after(self, place: str) -> list[str]:
        """Those that are there now."""
        ahead = (id_ for id_ in self.targets if id_.encode() > place.encode())
        return sorted(ahead, key=str.encode)


@pytest.fixture
async def servers(service: SegmentServer) -> AsyncIterator[Sequence[SegmentServer]]:
    """Two on one database."""
    async with start_segment_server(service.url) as other:
        yield service, other


async def read(
    service: SegmentServer, segments: Sequence[str], token: str, leg: Leg
) -> tuple[list[str], str]:
    """The targets of the leg's pages, and the token after them."""
    call = service.stub.StreamTargets(
        StreamTargetsRequest(
            segment_ids=segments, sender_id=SENDER, page_size=leg.page_size, resume_token=token
        )
    )
    seen: list[str] = []
    for _ in range(leg.pages):
        page = await call.read()
        if not isinstance(page, StreamTargetsResponse):
            break
        assert len(page.target_ids) <= leg.page_size
        seen += page.target_ids
        token = page.resume_token
    call.cancel()
    return seen, token


TO_THE_END = Leg(on_replica=True, page_size=4, pages=10**6, added_before=Added())


async def travel(servers: Sequence[SegmentServer], audience: Audience, legs: Sequence[Leg]) -> None:
    await audience.begin()
    token, place = "", ""
    for leg in (*legs, TO_THE_END):
        await audience.add(leg.added_before)
        expected = audience.after(place)[: leg.page_size * leg.pages]

        seen, token = await read(servers[leg.on_replica], audience.segments, token, leg)

        assert seen == expected
        place = seen[-1] if seen else place
    assert await servers[1].count(*audience.segments, sender_id=SENDER) == len(audience.targets)
    given = [*audience.made, *audience.targets, "nobody"]
    among = await servers[1].among(given, *audience.segments, sender_id=SENDER)
    assert among == audience.after("")
    again, _ = await read(servers[0], audience.segments, token, TO_THE_END)
    assert again == []


GROUPS_ASKED = st.frozensets(st.sampled_from(GROUPS), max_size=2)


@settings(max_examples=EXAMPLES)
@given(GROUPS_ASKED, st.booleans(), additions(names, 12), journeys(names))
async def test_a_stream_of_users_goes_on_exactly_where_it_was_cut_on_either_server(
    servers: Sequence[SegmentServer],
    groups: frozenset[str],
    everyone: bool,  # noqa: FBT001 - drawn
    at_first: Added,
    legs: list[Leg],
) -> None:
    """What is added ahead of the cut is seen, what is added behind it is not."""
    audience = Audience(servers[0], USER, groups, everyone)
    await travel(
        servers,
        audience,
        [Leg(on_replica=False, page_size=3, pages=1, added_before=at_first), *legs],
    )


@settings(max_examples=EXAMPLES)
@given(GROUPS_ASKED, st.booleans(), additions(cids, 8), journeys(cids))
async def test_a_stream_of_channels_goes_on_exactly_where_it_was_cut_on_either_server(
    servers: Sequence[SegmentServer],
    groups: frozenset[str],
    everyone: bool,  # noqa: FBT001 - drawn
    at_first: Added,
    legs: list[Leg],
) -> None:
    audience = Audience(servers[0], CHANNEL, groups, everyone)
    await travel(
        servers,
        audience,
        [Leg(on_replica=False, page_size=3, pages=1, added_before=at_first), *legs],
    )


@pytest.mark.parametrize("of_type", [USER, CHANNEL], ids=["users", "channels"])
async def test_the_shards_of_every_count_are_the_whole_in_order_and_no_target_is_in_two(
    servers: Sequence[SegmentServer], of_type: "segment_pb2.SegmentType.ValueType"
) -> None:
    audience = Audience(servers[0], of_type, {"x"}, everyone=True)
    await audience.begin()
    prefix = "messaging:" if of_type == CHANNEL else ""
    ids = [f"{prefix}{chr(ord('A') + n % 50) if of_type == USER else 'c'}{n}" for n in range(60)]
    made = {id_: (GROUPS[n % 3], n % 2 == 0) for n, id_ in enumerate(ids[:40])}
    await audience.add(Added(frozenset(ids[30:]), made))

    for count in range(1, 17):
        shards = [Shard(index=index, count=count) for index in range(count)]
        parts = [
            await servers[shard.index % 2].targets(
                *audience.segments, sender_id=SENDER, shard=shard, page_size=7
            )
            for shard in shards
        ]
        for part in parts:
            assert part == sorted(part, key=str.encode)
        whole = [target for part in parts for target in part]
        assert sorted(whole, key=str.encode) == audience.after("")


@settings(max_examples=EXAMPLES)
@given(
    listed=st.frozensets(names, min_size=1, max_size=30),
    count=st.integers(2, 16),
    page_size=st.integers(1, 5),
    data=st.data(),
)
async def test_a_shard_is_resumed_within_itself_and_its_token_is_refused_elsewhere(
    servers: Sequence[SegmentServer],
    listed: frozenset[str],
    count: int,
    page_size: int,
    data: st.DataObject,
) -> None:
    service, other = servers
    id_ = await service.listing(*listed)
    index = data.draw(st.integers(0, count - 1), "index")
    shard = Shard(index=index, count=count)
    pages = await service.pages(id_, shard=shard, page_size=page_size)
    if not pages:
        return
    cut = data.draw(st.integers(0, len(pages) - 1), "cut")
    token = pages[cut].resume_token

    rest = await other.targets(id_, shard=shard, resume_token=token)

    assert rest == [target for page in pages[cut + 1 :] for target in page.target_ids]
    elsewhere = [Shard(index=(index + 1) % count, count=count), Shard(index=index, count=17), None]
    for wrong in elsewhere:
        refusal = await refused(other.targets(id_, shard=wrong, resume_token=token))
        assert refusal.reason == "INVALID_RESUME_TOKEN"


def test_another_process_goes_on_where_a_killed_one_was_cut(
    sqlite_url: str, tmp_path: Path
) -> None:
    ids = [f"user-{number:03}" for number in range(50)]
    one, other = (_process(sqlite_url, tmp_path / f"{name}.log") for name in ("one", "other"))
    with one, other, open_channel(one.address) as to_one, open_channel(other.address) as to_other:
        stub, replica = SegmentServiceStub(to_one), SegmentServiceStub(to_other)
        segment = segment_pb2.Segment(id="s", type=USER)
        stub.CreateSegment(CreateSegmentRequest(segment=segment))
        stub.AddTargets(AddTargetsRequest(segment_id="s", target_ids=ids))
        request = StreamTargetsRequest(segment_ids=["s"], page_size=7)
        stream = iter(stub.StreamTargets(request))
        pages = [next(stream), next(stream)]
        one.kill()

        request.resume_token = pages[-1].resume_token
        pages += replica.StreamTargets(request)

    assert [target for page in pages for target in page.target_ids] == ids


def _process(database_url: str, log: Path) -> Server:
    address = free_address()
    settings = {"HERALD_DATABASE_URL": database_url, "HERALD_SEGMENT_LISTEN": address}
    return Server("segment_service", address, settings, log, forkserver.run)
