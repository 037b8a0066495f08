from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from herald.chat.v1 import chat_pb2, chat_service_pb2
from tests.harness import forkserver, hello_campaign
from tests.harness.processes import Pair
from tests.harness.reconciliation import assert_everyone_has_one_outcome
from tests.harness.sample_users import people, write_people

_SENDER = hello_campaign.SENDER


def test_a_campaign_greets_every_user_of_its_segment_by_name_in_a_channel_of_their_own(
    database_url: str, pair: Pair, tmp_path: Path
) -> None:
    them = _import_people(database_url, tmp_path / "users.jsonl", 1_000)
    audience = {person["id"]: person for person in them if person["country"] == "USA"}
    hello_campaign.upsert_sender(pair)
    segment = hello_campaign.create_segment(pair, {"country": "USA"})

    campaign = hello_campaign.create_campaign(pair, segment)
    hello_campaign.start(pair, campaign)
    campaign = hello_campaign.wait_until_completed(pair, campaign, 60)

    messages = list(_messages_of(pair, campaign.id))
    assert [(message.cid, message.text) for message in messages] == [
        (f"messaging:{user_id}-maria", f"Hi {audience[user_id]['name']} I'm Maria!")
        for user_id in sorted(audience)
    ]
    for message in messages:
        assert message.user_id == _SENDER.id
        assert message.type == "regular"
        assert json_format.MessageToDict(message.custom) == {
            "campaign_id": campaign.id,
            "created_by_campaign_id": campaign.id,
        }
    stats = campaign.stats
    assert stats.targets_total == len(audience)
    assert stats.messages_sent == len(audience)
    assert stats.users_sent == len(audience)
    assert stats.channels_created == len(audience)
    assert stats.targets_skipped == stats.targets_failed == 0
    assert stats.progress == 1
    assert_everyone_has_one_outcome(database_url, campaign.id, len(audience))


@pytest.mark.nightly
def test_the_channels_of_a_campaign_have_the_receiver_and_the_sender_in_them(
    database_url: str, pair: Pair, tmp_path: Path
) -> None:
    them = _import_people(database_url, tmp_path / "users.jsonl", 20)

    campaign = hello_campaign.start_for_everyone(pair)
    hello_campaign.wait_until_completed(pair, campaign, 60)

    for person in them:
        channel, members = _channel(pair, f"messaging:{person['id']}-maria")
        assert channel.type == "messaging"
        assert channel.id == f"{person['id']}-maria"
        assert (channel.member_count, channel.message_count) == (2, 1)
        assert not channel.distinct
        assert channel.last_message_at == channel.created_at
        assert members == {
            person["id"]: ("channel_member", False),
            _SENDER.id: ("channel_member", False),
        }


def _import_people(database_url: str, file: Path, how_many: int) -> list[dict[str, Any]]:
    """Writes so many people to `file`, and imports them; returns them."""
    them = list(islice(people(), how_many))
    write_people(file, them)
    done = forkserver.completed("chat_store", "import", str(file), "--database-url", database_url)
    assert done.returncode == 0, done.stderr
    return them


def _messages_of(pair: Pair, campaign_id: str) -> Iterator[chat_pb2.Message]:
    request = chat_service_pb2.QueryMessagesRequest(campaign_id=campaign_id, page_size=50)
    while True:
        page = pair.chat.QueryMessages(request, timeout=hello_campaign.CALL_SECONDS)
        yield from page.messages
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _channel(pair: Pair, cid: str) -> tuple[chat_pb2.Channel, dict[str, tuple[str, bool]]]:
    channel = pair.chat.GetChatChannel(
        chat_service_pb2.GetChatChannelRequest(cid=cid), timeout=hello_campaign.CALL_SECONDS
    ).channel
    members = pair.chat.QueryMembers(
        chat_service_pb2.QueryMembersRequest(cid=cid), timeout=hello_campaign.CALL_SECONDS
    ).members
    return channel, {member.user_id: (member.channel_role, member.hidden) for member in members}
