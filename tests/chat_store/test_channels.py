from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from chat_store.database.engine import Database, open_database
from chat_store.distinct_channels import distinct_channel_id
from chat_store.errors import ChannelNotFoundError, UserNotFoundError
from chat_store.filters.fields import CHANNEL_FIELDS
from chat_store.filters.parsing import parse_filter
from chat_store.models import (
    Channel,
    ChannelState,
    Member,
    Message,
    PickedChannel,
    User,
    WriteMode,
)
from chat_store.paging import NEWEST_FIRST, PageRequest
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft, ChatStore
from tests.chat_store.plans import plan_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
EVERYTHING = parse_filter({}, CHANNEL_FIELDS)

GENERAL = Channel(
    type="messaging",
    id="general",
    name="General",
    team="red",
    created_by_id="anna",
    custom={"topic": "all"},
    filter_tags=("x", "y"),
    frozen=True,
    disabled=True,
    created_at=datetime(2020, 1, 1, tzinfo=UTC),
)
CID = GENERAL.cid


@pytest.fixture
async def store(database: Database) -> ChatStore:
    """With the users anna, bob, cleo and the deleted zoe."""
    store = sql_chat_store(database)
    await store.users.upsert([User(id=id_) for id_ in ("anna", "bob", "cleo", "zoe")], NOON)
    await store.users.delete(["zoe"], NOON)
    return store


def distinct(*member_ids: str) -> ChannelDraft:
    id_ = distinct_channel_id(member_ids)
    channel = Channel(type="messaging", id=id_, distinct=True)
    return ChannelDraft(channel, member_ids, named_by_members=True)


def named(id_: str, *member_ids: str) -> ChannelDraft:
    return ChannelDraft(Channel(type="messaging", id=id_), member_ids)


async def member_ids(store: ChatStore, cid: str) -> list[str]:
    page = await store.channels.query_members(cid, PageRequest(100))
    return [member.user_id for member in page.items]


async def test_a_channel_comes_back_as_it_was_given(store: ChatStore) -> None:
    (stored,) = await store.channels.upsert([ChannelDraft(GENERAL)], NOON)

    assert stored == replace(GENERAL, updated_at=NOON)
    assert await store.channels.get(CID) == stored


async def test_what_the_store_keeps_itself_is_not_taken_from_a_caller(store: ChatStore) -> None:
    boasting = replace(
        GENERAL, member_count=9, message_count=9, last_message_at=NOON, deleted_at=NOON
    )

    (stored,) = await store.channels.upsert([ChannelDraft(boasting)], NOON)

    assert stored == replace(GENERAL, updated_at=NOON)


async def test_first_members_enter_the_channel_that_the_call_creates(store: ChatStore) -> None:
    (stored,) = await store.channels.upsert([named("general", "bob", "anna")], NOON)

    assert stored.member_count == 2
    page = await store.channels.query_members(CID, PageRequest(10))
    assert page.items == (
        Member(cid=CID, user_id="anna", created_at=NOON),
        Member(cid=CID, user_id="bob", created_at=NOON),
    )


@pytest.mark.parametrize("mode", WriteMode)
async def test_members_of_a_channel_that_is_there_stay_as_they_are(
    store: ChatStore, mode: WriteMode
) -> None:
    """Not even looked at: cleo does not enter, and nobody asks who `nobody` is."""
    await store.channels.upsert([named("general", "anna")], NOON)

    (stored,) = await store.channels.upsert([named("general", "cleo", "nobody")], LATER, mode)

    assert stored.member_count == 1
    assert await member_ids(store, CID) == ["anna"]


@pytest.mark.parametrize("missing", ["nobody", "zoe"])
async def test_a_first_member_who_is_not_there_refuses_the_whole_call(
    store: ChatStore, missing: str
) -> None:
    with pytest.raises(UserNotFoundError) as caught:
        await store.channels.upsert([named("one", "anna"), named("two", "bob", missing)], NOON)

    assert caught.value.user_id == missing
    assert await store.channels.by_cid(["messaging:one", "messaging:two"]) == {}


async def test_a_replaced_channel_keeps_creation_members_and_messages(store: ChatStore) -> None:
    await store.channels.upsert([ChannelDraft(GENERAL, ["anna"])], NOON)
    await store.messages.upsert([Message(id="m", cid=CID, user_id="anna")], NOON)

    (stored,) = await store.channels.upsert([named("general")], LATER)

    assert stored == Channel(
        type="messaging",
        id="general",
        member_count=1,
        message_count=1,
        created_at=GENERAL.created_at,
        updated_at=LATER,
        last_message_at=NOON,
    )


async def test_inserting_leaves_a_channel_that_is_there_alone(store: ChatStore) -> None:
    await store.channels.upsert([ChannelDraft(GENERAL)], NOON)

    (stored,) = await store.channels.upsert([named("general")], LATER, WriteMode.INSERT)

    assert stored == replace(GENERAL, updated_at=NOON)


async def test_channels_come_back_in_the_order_given_and_the_last_of_two_counts(
    store: ChatStore,
) -> None:
    stored = await store.channels.upsert(
        [named("b", "anna"), named("a"), named("b", "bob", "cleo")], NOON
    )

    assert [(channel.id, channel.member_count) for channel in stored] == [
        ("b", 2),
        ("a", 0),
        ("b", 2),
    ]
    assert await member_ids(store, "messaging:b") == ["bob", "cleo"]


async def test_picked_channels_have_their_state_and_the_fields_asked_for(store: ChatStore) -> None:
    of_two, of_three = distinct("anna", "bob"), distinct("anna", "bob", "cleo")
    drafts = [
        named("open"),
        named("gone"),
        of_two,
        replace(of_three, channel=replace(of_three.channel, frozen=True)),
        ChannelDraft(replace(GENERAL, frozen=False, disabled=True)),
    ]
    await store.channels.upsert(drafts, NOON)
    await store.channels.delete(["messaging:gone"], LATER)
    cids = [draft.channel.cid for draft in drafts]

    picked = await store.channels.pick([*cids, "messaging:nowhere"], ["name", "custom"])

    assert {cid: channel.state for cid, channel in picked.items()} == {
        "messaging:open": ChannelState.OPEN,
        "messaging:gone": ChannelState.DELETED,
        of_two.channel.cid: ChannelState.DISTINCT,
        of_three.channel.cid: ChannelState.FROZEN,
        GENERAL.cid: ChannelState.FROZEN,
    }
    assert picked[GENERAL.cid].values == (GENERAL.name, GENERAL.custom)


async def test_channels_of_two_are_found_by_the_others_on_sqlite(sqlite_url: str) -> None:
    """The sender of a campaign may be in millions of channels."""
    database = open_database(sqlite_url)
    channels = sql_chat_store(database).channels
    steps = await plan_of(database, channels.between("acme", ["anna", "bob"], ["id"]))
    await database.close()

    assert [step for step in steps if "others" in step and "(user_id=?)" in step], steps
    assert [step for step in steps if "own" in step and "(cid=? AND user_id=?)" in step], steps


async def test_no_plan_of_postgresql_outlives_the_tables_it_was_made_for(
    postgres_url: str,
) -> None:
    """One that was made while a table was empty read all of it for each key, when it was large."""
    database = open_database(postgres_url)
    channels = sql_chat_store(database).channels
    for _ in range(10):
        await channels.pick([GENERAL.cid], [])
    async with database.autocommit() as connection:
        plans = await connection.execute(
            text(
                "SELECT sum(generic_plans), sum(custom_plans) >= 10 FROM pg_prepared_statements"
                " WHERE statement LIKE 'SELECT array_agg%'"
            )
        )
        assert tuple(plans.one()) == (0, True)
    await database.close()


async def test_the_same_members_name_the_same_channel(store: ChatStore) -> None:
    (first,) = await store.channels.upsert([distinct("anna", "bob")], NOON)
    (again,) = await store.channels.upsert([distinct("bob", "anna")], LATER)

    assert (first.cid, first.distinct, first.member_count) == (again.cid, True, 2)
    assert again.created_at == NOON


async def test_a_distinct_channel_known_only_by_its_id_must_be_there(store: ChatStore) -> None:
    known_by_id = replace(distinct("anna", "bob"), named_by_members=False, first_member_ids=())
    cid = known_by_id.channel.cid
    with pytest.raises(ChannelNotFoundError) as caught:
        await store.channels.upsert([named("other"), known_by_id], NOON)
    assert caught.value.cid == cid
    assert await store.channels.by_cid(["messaging:other"]) == {}

    await store.channels.upsert([distinct("anna", "bob")], NOON)
    (stored,) = await store.channels.upsert([known_by_id], LATER)

    assert (stored.distinct, stored.updated_at) == (True, LATER)


async def test_an_unknown_channel_is_an_error_that_names_the_cid(store: ChatStore) -> None:
    with pytest.raises(ChannelNotFoundError) as caught:
        await store.channels.get("messaging:none")

    assert caught.value.cid == "messaging:none"


async def test_a_deleted_channel_is_known_and_not_found(store: ChatStore) -> None:
    await store.channels.upsert([named("general"), named("other")], NOON)

    assert await store.channels.delete([CID, CID, "messaging:none"], LATER) == 1
    assert await store.channels.delete([CID], LATER) == 0

    stored = await store.channels.get(CID)
    assert (stored.deleted_at, stored.updated_at) == (LATER, LATER)
    page = await store.channels.query(EVERYTHING, PageRequest(10, NEWEST_FIRST))
    assert [channel.id for channel in page.items] == ["other"]
    (again,) = await store.channels.upsert([named("general")], LATER)
    assert again.deleted_at == LATER


async def test_adding_members_counts_who_was_not_in(store: ChatStore) -> None:
    await store.channels.upsert([named("general", "anna")], NOON)
    given = [
        Member(cid=CID, user_id="anna", channel_role="owner"),
        Member(cid=CID, user_id="bob", channel_role="guest"),
        Member(cid=CID, user_id="bob", channel_role="moderator", custom={"seat": 1}),
    ]

    assert await store.channels.add_members(CID, given, LATER) == 1

    page = await store.channels.query_members(CID, PageRequest(10))
    assert page.items == (
        Member(cid=CID, user_id="anna", created_at=NOON),
        replace(given[2], created_at=LATER),
    )
    assert (await store.channels.get(CID)).member_count == 2


async def test_only_users_who_are_there_are_added(store: ChatStore) -> None:
    await store.channels.upsert([named("general")], NOON)

    with pytest.raises(UserNotFoundError) as caught:
        await store.channels.add_members(
            CID, [Member(cid=CID, user_id=id_) for id_ in ("anna", "zoe", "nobody")], NOON
        )

    assert caught.value.user_id == "zoe"
    assert await member_ids(store, CID) == []


async def test_removing_members_counts_who_was_in(store: ChatStore) -> None:
    await store.channels.upsert([named("general", "anna", "bob")], NOON)

    assert await store.channels.remove_members(CID, ["anna", "anna", "nobody"]) == 1
    assert await store.channels.remove_members(CID, ["anna"]) == 0

    assert await member_ids(store, CID) == ["bob"]
    assert (await store.channels.get(CID)).member_count == 1


@pytest.mark.parametrize("cid", ["messaging:none", "messaging:gone"])
async def test_members_come_and_go_only_where_there_is_a_channel(
    store: ChatStore, cid: str
) -> None:
    await store.channels.upsert([named("gone", "anna")], NOON)
    await store.channels.delete(["messaging:gone"], NOON)

    with pytest.raises(ChannelNotFoundError):
        await store.channels.add_members(cid, [Member(cid=cid, user_id="anna")], NOON)
    with pytest.raises(ChannelNotFoundError):
        await store.channels.remove_members(cid, ["anna"])


async def test_members_of_a_deleted_channel_can_be_read(store: ChatStore) -> None:
    await store.channels.upsert([named("gone", "anna")], NOON)
    await store.channels.delete(["messaging:gone"], NOON)

    assert await member_ids(store, "messaging:gone") == ["anna"]
    with pytest.raises(ChannelNotFoundError):
        await member_ids(store, "messaging:none")


async def test_members_come_in_bytewise_order_page_by_page(store: ChatStore) -> None:
    ids = sorted(["a", "B", "ä", "Z", "b", "10", "9"], key=str.encode)
    await store.users.upsert([User(id=id_) for id_ in ids], NOON)
    await store.channels.upsert([named("general", *ids)], NOON)

    first = await store.channels.query_members(CID, PageRequest(4))
    second = await store.channels.query_members(CID, PageRequest(4, cursor=first.next_cursor))
    back = await store.channels.query_members(CID, PageRequest(4, cursor=second.prev_cursor))

    assert [m.user_id for m in (*first.items, *second.items)] == ids
    assert (second.next_cursor, back.items) == (None, first.items)


async def pairs(store: ChatStore, *others: str) -> dict[str, str]:
    """The CIDs of anna's channels with them."""
    found = await store.channels.between("anna", others, [])
    return {other: channel.cid for other, channel in found.items()}


async def test_the_channel_of_two_has_exactly_these_two(store: ChatStore) -> None:
    await store.channels.upsert(
        [
            named("three", "anna", "bob", "cleo"),
            named("alone", "anna"),
            named("pair", "anna", "bob"),
            named("others", "bob", "cleo"),
        ],
        NOON,
    )

    assert await pairs(store, "bob", "cleo", "nobody", "anna") == {"bob": "messaging:pair"}
    assert await pairs(store) == {}


async def test_the_channel_of_two_has_its_state_and_the_fields_asked_for(store: ChatStore) -> None:
    pair = named("pair", "anna", "bob")
    frozen = replace(pair.channel, frozen=True, custom={"seats": 2})
    await store.channels.upsert([replace(pair, channel=frozen)], NOON)
    names = ["id", "custom", "created_at", "member_count"]

    found = await store.channels.between("anna", ["bob"], names)

    values = ("pair", {"seats": 2}, NOON, 2)
    assert found == {"bob": PickedChannel("messaging:pair", ChannelState.FROZEN, values)}
    assert found["bob"] == (await store.channels.pick(["messaging:pair"], names))["messaging:pair"]


async def test_of_several_channels_of_two_it_is_the_most_recently_active(
    store: ChatStore,
) -> None:
    async def pair() -> str:
        return (await pairs(store, "bob"))["bob"]

    await store.channels.upsert([named("old", "anna", "bob")], NOON)
    await store.channels.upsert([named("b", "anna", "bob"), named("a", "anna", "bob")], LATER)
    assert await pair() == "messaging:a"

    message = Message(id="m", cid="messaging:old", user_id="bob")
    await store.messages.upsert([message], LATER + timedelta(seconds=1))
    assert await pair() == "messaging:old"

    await store.channels.delete(["messaging:old", "messaging:a"], LATER)
    assert await pair() == "messaging:b"


async def test_a_pair_that_others_joined_is_none(store: ChatStore) -> None:
    await store.channels.upsert([named("pair", "anna", "bob")], NOON)

    await store.channels.add_members(
        "messaging:pair", [Member(cid="messaging:pair", user_id="cleo")], NOON
    )
    assert await pairs(store, "bob") == {}

    await store.channels.remove_members("messaging:pair", ["bob"])
    assert await pairs(store, "bob", "cleo") == {"cleo": "messaging:pair"}


def test_members_ids_are_sorted_bytewise_and_hashed_as_in_the_original() -> None:
    id_ = distinct_channel_id(["b", "a", "b"])

    assert id_ == "!members-2UW5yVENlya53tzuUr-fZ5EFMXa39rdN-LHDPcuPeAU"
    assert distinct_channel_id(["a", "b"]) == id_
