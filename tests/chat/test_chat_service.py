from datetime import timedelta

import pytest

from chat_store.models import Message as StoredMessage
from herald.chat.v1 import chat_pb2, sort_pb2
from herald.chat.v1 import chat_service_pb2 as pb
from tests.chat.running_chat import CID, NOON, Chat, struct, time

FOUR_MEBIBYTES = 4 * 1024 * 1024


async def test_a_user_comes_back_as_it_was_given(chat: Chat) -> None:
    given = chat_pb2.User(
        id="anna",
        name="Anna",
        username="anna1",
        email="anna@example.com",
        role="admin",
        language="en",
        image="https://example.com/anna.png",
        teams=["red", "blue"],
        custom=struct({"country": "USA", "age": 31, "tags": [1.5, None, True]}),
        banned=True,
        shadow_banned=True,
        push_preferences=struct({"chat_level": "mentions"}),
        created_at=time(NOON - timedelta(days=1)),
    )
    boasting = chat_pb2.User()
    boasting.CopyFrom(given)
    for name in ("updated_at", "last_active", "deactivated_at", "deleted_at"):
        getattr(boasting, name).CopyFrom(time(NOON))

    answer = await chat.call.UpsertUsers(pb.UpsertUsersRequest(users=[boasting]))

    given.updated_at.CopyFrom(time(NOON))
    assert list(answer.users) == [given]
    assert (await chat.call.GetUser(pb.GetUserRequest(id="anna"))).user == given


async def test_a_channel_comes_back_as_it_was_given(chat_with_members: Chat) -> None:
    given = chat_pb2.Channel(
        type="team",
        id="blue-1",
        name="Blue",
        team="blue",
        created_by_id="anna",
        custom=struct({"topic": "x"}),
        filter_tags=["a", "b"],
        frozen=True,
        disabled=True,
        created_at=time(NOON - timedelta(days=1)),
        member_ids=["bob", "anna", "bob"],
    )

    answer = await chat_with_members.call.UpsertChannels(pb.UpsertChannelsRequest(channels=[given]))

    given.ClearField("member_ids")
    given.MergeFrom(chat_pb2.Channel(cid="team:blue-1", member_count=2, updated_at=time(NOON)))
    assert list(answer.channels) == [given]
    got = await chat_with_members.call.GetChatChannel(pb.GetChatChannelRequest(cid="team:blue-1"))
    assert got.channel == given


async def test_an_insert_leaves_what_is_there_alone(chat_with_members: Chat) -> None:
    request = pb.UpsertUsersRequest(
        users=[chat_pb2.User(id="anna", name="New")], mode=pb.UPSERT_MODE_INSERT
    )
    assert (await chat_with_members.call.UpsertUsers(request)).users[0].name == ""

    request.mode = pb.UPSERT_MODE_REPLACE
    assert (await chat_with_members.call.UpsertUsers(request)).users[0].name == "New"


async def test_the_same_members_name_the_same_channel(chat_with_members: Chat) -> None:
    one = chat_pb2.Channel(type="messaging", member_ids=["anna", "cleo"])
    other = chat_pb2.Channel(type="messaging", member_ids=["cleo", "anna", "cleo"], name="Pair")

    answer = await chat_with_members.call.UpsertChannels(
        pb.UpsertChannelsRequest(channels=[one, other])
    )

    assert answer.channels[0] == answer.channels[1]
    pair = answer.channels[0]
    assert (pair.distinct, pair.member_count, pair.name) == (True, 2, "Pair")
    by_id = chat_pb2.Channel(type="messaging", id=pair.id, name="Renamed")
    again = await chat_with_members.call.UpsertChannels(pb.UpsertChannelsRequest(channels=[by_id]))
    assert (again.channels[0].cid, again.channels[0].name) == (pair.cid, "Renamed")


async def test_users_are_found_page_by_page(chat_with_members: Chat) -> None:
    query = pb.QueryUsersRequest(
        filter=struct({"id": {"$in": ["anna", "bob", "cleo", "zoe"]}}),
        sort=[sort_pb2.Sort(field="id", direction=sort_pb2.SORT_DIRECTION_DESC)],
        page_size=2,
    )
    first = await chat_with_members.call.QueryUsers(query)
    query.page_token = first.next_page_token
    second = await chat_with_members.call.QueryUsers(query)
    query.page_token = second.prev_page_token
    back = await chat_with_members.call.QueryUsers(query)

    assert [user.id for user in (*first.users, *second.users)] == ["cleo", "bob", "anna"]
    assert (first.prev_page_token, second.next_page_token) == ("", "")
    assert list(back.users) == list(first.users)


async def test_deactivated_users_are_found_on_request(chat_with_members: Chat) -> None:
    answer = await chat_with_members.call.DeactivateUsers(
        pb.DeactivateUsersRequest(ids=["anna", "anna", "zoe", "nobody"])
    )
    assert answer.deactivated == 1

    without = await chat_with_members.call.QueryUsers(pb.QueryUsersRequest())
    with_them = await chat_with_members.call.QueryUsers(
        pb.QueryUsersRequest(include_deactivated=True)
    )

    assert [user.id for user in without.users] == ["bob", "cleo"]
    assert [user.id for user in with_them.users] == ["anna", "bob", "cleo"]
    assert with_them.users[0].deactivated_at == time(NOON)


async def test_deleted_users_are_known_and_not_found(chat_with_members: Chat) -> None:
    assert (
        await chat_with_members.call.DeleteUsers(pb.DeleteUsersRequest(ids=["zoe", "bob"]))
    ).deleted == 1

    assert (
        await chat_with_members.call.GetUser(pb.GetUserRequest(id="bob"))
    ).user.deleted_at == time(NOON)
    found = await chat_with_members.call.QueryUsers(pb.QueryUsersRequest(include_deactivated=True))
    assert [user.id for user in found.users] == ["anna", "cleo"]


async def test_users_who_were_deactivated_or_deleted_are_brought_back(
    chat_with_members: Chat,
) -> None:
    call = chat_with_members.call
    await call.DeactivateUsers(pb.DeactivateUsersRequest(ids=["anna"]))
    await call.DeleteUsers(pb.DeleteUsersRequest(ids=["bob"]))

    back = await call.ReactivateUsers(pb.ReactivateUsersRequest(ids=["anna", "bob", "zoe"]))
    restored = await call.RestoreUsers(pb.RestoreUsersRequest(ids=["anna", "bob", "nobody"]))

    assert (back.reactivated, restored.restored) == (1, 1)
    found = await call.QueryUsers(pb.QueryUsersRequest())
    assert [user.id for user in found.users] == ["anna", "bob", "cleo"]


async def test_channels_are_found_by_their_members(chat_with_members: Chat) -> None:
    query = pb.QueryChannelsRequest(filter=struct({"members": {"$in": ["anna"]}}))

    found = await chat_with_members.call.QueryChannels(query)

    assert [channel.cid for channel in found.channels] == [CID]
    answer = await chat_with_members.call.DeleteChannels(pb.DeleteChannelsRequest(cids=[CID, CID]))
    assert answer.deleted == 1
    assert not (await chat_with_members.call.QueryChannels(query)).channels
    got = await chat_with_members.call.GetChatChannel(pb.GetChatChannelRequest(cid=CID))
    assert got.channel.deleted_at == time(NOON)


async def test_members_come_and_go(chat_with_members: Chat) -> None:
    given = chat_pb2.Member(
        cid="elsewhere:x",
        user_id="cleo",
        channel_role="moderator",
        custom=struct({"seat": 1}),
        hidden=True,
        archived_at=time(NOON),
    )
    anna = chat_pb2.Member(user_id="anna")
    answer = await chat_with_members.call.AddMembers(
        pb.AddMembersRequest(cid=CID, members=[given, anna])
    )
    assert answer.added == 1
    removal = pb.RemoveMembersRequest(cid=CID, user_ids=["bob", "bob", "nobody"])
    assert (await chat_with_members.call.RemoveMembers(removal)).removed == 1

    found = await chat_with_members.call.QueryMembers(pb.QueryMembersRequest(cid=CID))

    assert list(found.members) == [
        chat_pb2.Member(
            cid=CID,
            user_id="anna",
            channel_role="channel_member",
            custom=struct({}),
            created_at=time(NOON),
        ),
        chat_pb2.Member(
            cid=CID,
            user_id="cleo",
            channel_role="moderator",
            custom=struct({"seat": 1}),
            created_at=time(NOON),
        ),
    ]


async def test_messages_are_read_by_channel_and_by_campaign(chat_with_members: Chat) -> None:
    whole = StoredMessage(
        id="m2",
        cid=CID,
        user_id="anna",
        text="Hi Bob",
        attachments=({"type": "image"},),
        poll_id="poll",
        custom={"campaign_id": "c"},
        searchable=True,
        campaign_id="c",
        target_id="bob",
        created_at=NOON + timedelta(seconds=1),
    )
    plain = StoredMessage(id="m1", cid=CID, user_id="bob", type="system", created_at=NOON)
    await chat_with_members.store.messages.upsert([whole, plain], NOON)

    of_channel = await chat_with_members.call.QueryMessages(pb.QueryMessagesRequest(cid=CID))
    of_campaign = await chat_with_members.call.QueryMessages(
        pb.QueryMessagesRequest(campaign_id="c")
    )
    none = await chat_with_members.call.QueryMessages(pb.QueryMessagesRequest(campaign_id="none"))

    assert list(of_channel.messages) == [
        chat_pb2.Message(
            id="m2",
            cid=CID,
            user_id="anna",
            type="regular",
            text="Hi Bob",
            attachments=[struct({"type": "image"})],
            poll_id="poll",
            custom=struct({"campaign_id": "c"}),
            searchable=True,
            campaign_id="c",
            created_at=time(NOON + timedelta(seconds=1)),
        ),
        chat_pb2.Message(
            id="m1",
            cid=CID,
            user_id="bob",
            type="system",
            custom=struct({}),
            created_at=time(NOON),
        ),
    ]
    assert [message.id for message in of_campaign.messages] == ["m2"]
    assert not none.messages


async def test_a_read_position_is_now_unless_told_and_never_moves_back(
    chat_with_members: Chat,
) -> None:
    chat_with_members.clock.now = NOON + timedelta(hours=1)
    request = pb.MarkReadRequest(cid=CID, user_id="anna")
    assert (await chat_with_members.call.MarkRead(request)).read_at == time(
        NOON + timedelta(hours=1)
    )

    request.read_at.CopyFrom(time(NOON))
    assert (await chat_with_members.call.MarkRead(request)).read_at == time(
        NOON + timedelta(hours=1)
    )
    request.read_at.CopyFrom(time(NOON + timedelta(hours=2)))
    assert (await chat_with_members.call.MarkRead(request)).read_at == time(
        NOON + timedelta(hours=2)
    )


@pytest.mark.parametrize(("asked", "given"), [(0, 25), (7, 7), (1_000, 1_000), (5_000, 1_000)])
async def test_a_page_has_25_records_unless_told_and_1000_at_most(
    chat: Chat, asked: int, given: int
) -> None:
    for hundred in range(11):
        users = [chat_pb2.User(id=f"{hundred:02}-{number:02}") for number in range(100)]
        await chat.call.UpsertUsers(pb.UpsertUsersRequest(users=users))

    page = await chat.call.QueryUsers(pb.QueryUsersRequest(page_size=asked))

    assert len(page.users) == given


async def test_a_page_too_large_for_a_client_is_a_shorter_one(chat: Chat) -> None:
    """Forwards it ends earlier, backwards it begins later, and nobody is left out or seen twice."""
    note = struct({"note": "x" * 5_000})
    ids = [f"{number:04}" for number in range(1_100)]
    for start in range(0, 1_100, 275):
        users = [chat_pb2.User(id=id_, custom=note) for id_ in ids[start : start + 275]]
        await chat.call.UpsertUsers(pb.UpsertUsersRequest(users=users))
    query = pb.QueryUsersRequest(sort=[sort_pb2.Sort(field="id")], page_size=1_000)

    first = await chat.call.QueryUsers(query)
    query.page_token = first.next_page_token
    second = await chat.call.QueryUsers(query)
    query.page_size = 5
    query.page_token = ""
    query.sort[0].direction = sort_pb2.SORT_DIRECTION_DESC
    end = await chat.call.QueryUsers(query)
    query.page_token = end.next_page_token
    query.page_size = 1_000
    before_end = await chat.call.QueryUsers(query)
    query.page_token = before_end.next_page_token
    begin = await chat.call.QueryUsers(query)
    query.page_token = begin.prev_page_token
    back = await chat.call.QueryUsers(query)

    assert [user.id for user in (*first.users, *second.users)] == ids
    assert FOUR_MEBIBYTES * 3 // 4 < first.ByteSize() < FOUR_MEBIBYTES
    assert [user.id for user in (*end.users, *before_end.users, *begin.users)] == ids[::-1]
    assert list(back.users) == list(before_end.users)
