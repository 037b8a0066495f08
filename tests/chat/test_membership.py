from datetime import timedelta

import pytest

from chat_store.models import Member
from chat_store.paging import PageRequest
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as pb
from tests.chat.running_chat import CID, NOON, Chat, refusal, struct, time

LATER = NOON + timedelta(hours=1)


@pytest.fixture(params=["sqlite", "postgres"])
def dialect(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


async def change(
    chat: Chat, *, hidden: bool | None = None, archived: bool | None = None
) -> chat_pb2.Member:
    request = pb.SetMembershipRequest(cid=CID, user_id="anna", hidden=hidden, archived=archived)
    return (await chat.call.SetMembership(request)).member


async def members(chat: Chat) -> tuple[Member, ...]:
    return (await chat.store.channels.query_members(CID, PageRequest(10))).items


async def test_a_member_hides_a_channel_and_shows_it_again(chat_with_members: Chat) -> None:
    assert (await change(chat_with_members, hidden=True)).hidden
    assert [member.hidden for member in await members(chat_with_members)] == [True, False]
    assert not (await change(chat_with_members, hidden=False)).hidden
    assert [member.hidden for member in await members(chat_with_members)] == [False, False]


async def test_a_member_archives_a_channel_and_takes_it_out(chat_with_members: Chat) -> None:
    assert (await change(chat_with_members, archived=True)).archived_at == time(NOON)
    assert [member.archived_at for member in await members(chat_with_members)] == [NOON, None]
    assert not (await change(chat_with_members, archived=False)).HasField("archived_at")
    assert [member.archived_at for member in await members(chat_with_members)] == [None, None]


async def test_a_channel_archived_already_keeps_its_time(chat_with_members: Chat) -> None:
    await change(chat_with_members, archived=True)
    chat_with_members.clock.now = LATER

    assert (await change(chat_with_members, archived=True)).archived_at == time(NOON)

    await change(chat_with_members, archived=False)
    assert (await change(chat_with_members, archived=True)).archived_at == time(LATER)


async def test_what_is_unset_stays_as_it_is(chat_with_members: Chat) -> None:
    await change(chat_with_members, hidden=True, archived=True)
    chat_with_members.clock.now = LATER

    assert (await change(chat_with_members, archived=False)).hidden
    assert (await change(chat_with_members, archived=True)).hidden
    shown = await change(chat_with_members, hidden=False)
    assert (shown.hidden, shown.archived_at) == (False, time(LATER))
    assert await change(chat_with_members) == shown


async def test_the_rest_of_the_member_stays_and_is_answered(chat_with_members: Chat) -> None:
    cleo = chat_pb2.Member(user_id="cleo", channel_role="owner", custom=struct({"seat": 1}))
    await chat_with_members.call.AddMembers(pb.AddMembersRequest(cid=CID, members=[cleo]))
    chat_with_members.clock.now = LATER

    request = pb.SetMembershipRequest(cid=CID, user_id="cleo", hidden=True)
    answer = await chat_with_members.call.SetMembership(request)

    assert answer.member == chat_pb2.Member(
        cid=CID,
        user_id="cleo",
        channel_role="owner",
        custom=struct({"seat": 1}),
        hidden=True,
        created_at=time(NOON),
    )


async def test_nothing_changes_in_a_deleted_channel(chat_with_members: Chat) -> None:
    await chat_with_members.call.DeleteChannels(pb.DeleteChannelsRequest(cids=[CID]))
    before = await members(chat_with_members)

    assert (await refusal(change(chat_with_members, hidden=True))).reason == "CHANNEL_NOT_FOUND"
    assert await members(chat_with_members) == before


async def test_a_deleted_user_is_still_a_member(chat_with_members: Chat) -> None:
    await chat_with_members.call.DeleteUsers(pb.DeleteUsersRequest(ids=["anna"]))

    assert (await change(chat_with_members, hidden=True)).hidden
