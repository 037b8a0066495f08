"""A campaign whose templates fail for everyone stops before anyone is used up."""

import pytest

from chat_store.database.engine import open_database
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from tests.campaign.builders import MOMENT, SENDER_ID, a_campaign_message, a_user
from tests.campaign.server_pair import ServerPair, start_pair
from tests.harness.reconciliation import assert_everyone_has_one_outcome

pytestmark = pytest.mark.nightly_on("postgresql")

PEOPLE = [f"u{number:02}" for number in range(40)]
GONE = ["a-nobody", "u05-nobody", "z-nobody"]
FAILS = "{{ 'x' * 10 ** 9 }}"
TOO_LONG = "{{ 'x' * 20001 }}"


@pytest.mark.nightly_on("-1]", "-7]", "too long", "channel id", "custom")
@pytest.mark.parametrize("page_size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"message_template": {"text": FAILS}}, "TEMPLATE_ERROR", "more than 10000 steps"),
        ({"message_template": {"text": TOO_LONG}}, "MESSAGE_TOO_LONG", ""),
        (
            {"channel_template": {"type": "messaging", "id": "to {{ receiver.id }}"}},
            "CHANNEL_ID_INVALID",
            "'to u",
        ),
        (
            {"message_template": {"text": "Hi", "custom": {"a": FAILS}}, "sender_mode": 1},
            "TEMPLATE_ERROR",
            "more than 10000 steps",
        ),
    ],
    ids=["text", "too long", "channel id", "custom"],
)
async def test_a_template_that_fails_everyone_is_mended_and_resumed_with_nobody_used_up(
    changes: dict[str, object], reason: str, detail: str, page_size: int, database_url: str
) -> None:
    await with_people(database_url)
    async with start_pair(database_url, page_size=page_size) as services:
        await services.create(a_campaign_message({"user_ids": PEOPLE, **changes}))
        await services.start()
        stopped = await services.until_stopped()

        assert "nothing is sent yet, and every target would fail: 'u" in stopped.status_reason
        assert f"with {reason}" in stopped.status_reason
        assert detail in stopped.status_reason
        assert stopped.stats.progress == 0
        assert await outcomes(services) == []

        await services.campaigns.UpdateCampaign(
            pb.UpdateCampaignRequest(campaign=a_campaign_message({"user_ids": PEOPLE}))
        )
        await services.start()
        done = await services.until_completed()

    assert (done.stats.messages_sent, done.status_reason) == (len(PEOPLE), "")
    assert_everyone_has_one_outcome(database_url, "spring", len(PEOPLE))


async def test_a_few_who_are_not_there_do_not_hide_that_everyone_else_fails(
    database_url: str,
) -> None:
    await with_people(database_url)
    async with start_pair(database_url) as services:
        await services.add_list("people", [*PEOPLE, *GONE])
        everyone = {"segment_ids": ["people"], "user_ids": None}
        text = {"message_template": {"text": FAILS}}
        await services.create(a_campaign_message({**everyone, **text}))
        await services.start()
        await services.until_stopped()

        assert await outcomes(services) == []


@pytest.mark.parametrize("fine", [PEOPLE[:1], PEOPLE[20:21], PEOPLE[-1:]], ids=str)
async def test_one_who_is_sent_to_lets_the_campaign_go_on_whatever_shard_they_are_in(
    fine: list[str], database_url: str
) -> None:
    """Everyone else fails; with one page a shard, most shards have nobody to send to."""
    await with_people(database_url)
    text = f"{{{{ 'Hi' if receiver.id == '{fine[0]}' else 'x' * 10 ** 9 }}}}"
    async with start_pair(database_url, page_size=1000) as services:
        await services.create(
            a_campaign_message({"user_ids": PEOPLE, "message_template": {"text": text}})
        )
        await services.start()
        done = await services.until_completed()

    assert (done.stats.messages_sent, done.stats.targets_failed) == (1, len(PEOPLE) - 1)
    assert_everyone_has_one_outcome(database_url, "spring", len(PEOPLE))


async def outcomes(services: ServerPair) -> list[campaign_pb2.Delivery]:
    request = pb.QueryDeliveriesRequest(campaign_id="spring")
    return list((await services.campaigns.QueryDeliveries(request)).deliveries)


async def with_people(database_url: str) -> None:
    database = open_database(database_url)
    users = [a_user(id_) for id_ in (SENDER_ID, *PEOPLE)]
    await sql_chat_store(database).users.upsert(users, MOMENT)
    await database.close()
