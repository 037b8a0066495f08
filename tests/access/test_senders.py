"""A token for some senders writes and starts their campaigns alone, and reads all."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from chat_store.access.scopes import Scope
from chat_store.access.tokens import id_in
from chat_store.sql.stores import sql_chat_store
from herald.campaign.v1 import campaign_pb2, campaign_service_pb2_grpc
from herald.campaign.v1 import campaign_service_pb2 as pb
from tests.access.guarded_pair import Answer, GuardedPair, answer_to, bearing, guarded_pair
from tests.campaign.builders import a_campaign_message, a_user

pytestmark = pytest.mark.nightly_on("postgresql")

OWN, OTHER = "maria", "otto"
ALL = (Scope.CAMPAIGNS_WRITE, Scope.CAMPAIGNS_SEND)


@pytest.fixture
async def pair(database_url: str) -> AsyncIterator[GuardedPair]:
    async with guarded_pair(database_url) as running:
        users = [a_user(id_) for id_ in (OWN, OTHER, "ann", "bob")]
        await sql_chat_store(running.database).users.upsert(users, datetime.now(UTC))
        yield running


class Caller:
    """CampaignService with one token."""

    def __init__(self, pair: GuardedPair, text: str) -> None:
        self._stub: Any = campaign_service_pb2_grpc.CampaignServiceStub(pair.channels["campaign"])
        self._metadata = bearing(text)

    async def call(self, request: Any) -> Any:
        method = type(request).__name__.removesuffix("Request")
        return await getattr(self._stub, method)(request, metadata=self._metadata, timeout=60)

    async def answer(self, request: Any) -> Answer:
        return await answer_to(self.call(request))

    async def status(self, id_: str) -> int:
        found = await self.call(pb.GetCampaignRequest(id=id_))
        return int(found.campaign.status)


def campaign(id_: str, sender_id: str, **changes: Any) -> campaign_pb2.Campaign:
    message = a_campaign_message({"id": id_, "sender_id": sender_id, "user_ids": ["ann", "bob"]})
    message.MergeFrom(campaign_pb2.Campaign(**changes))
    return message


def handed_over(id_: str, sender_id: str) -> pb.UpdateCampaignRequest:
    request = pb.UpdateCampaignRequest(campaign=campaign_pb2.Campaign(id=id_, sender_id=sender_id))
    request.update_mask.paths.append("sender_id")
    return request


def renamed(id_: str) -> pb.UpdateCampaignRequest:
    request = pb.UpdateCampaignRequest(campaign=campaign_pb2.Campaign(id=id_, name="New"))
    request.update_mask.paths.append("name")
    return request


WRITES: dict[str, Callable[[], Any]] = {
    "create": lambda: pb.CreateCampaignRequest(campaign=campaign("new", OTHER)),
    "create again": lambda: pb.CreateCampaignRequest(campaign=campaign("theirs", OTHER)),
    "validate": lambda: pb.CreateCampaignRequest(
        campaign=campaign("new", OTHER), validate_only=True
    ),
    "update": lambda: renamed("theirs"),
    "update without a change": lambda: handed_over("theirs", OTHER),
    "take over": lambda: handed_over("theirs", OWN),
    "hand over": lambda: handed_over("own", OTHER),
    "delete": lambda: pb.DeleteCampaignRequest(id="theirs"),
    "start": lambda: pb.StartCampaignRequest(id="theirs"),
    "stop": lambda: pb.StopCampaignRequest(id="theirs"),
    # which would have no effect, or be refused for the campaign's state
    "start one in progress": lambda: pb.StartCampaignRequest(id="running"),
    "start a deleted one": lambda: pb.StartCampaignRequest(id="deleted"),
    "stop a deleted one": lambda: pb.StopCampaignRequest(id="deleted"),
    "update a deleted one": lambda: renamed("deleted"),
    "delete a deleted one": lambda: pb.DeleteCampaignRequest(id="deleted"),
}


async def with_campaigns(pair: GuardedPair) -> Caller:
    everyone = Caller(pair, await pair.issue(*ALL))
    await everyone.call(pb.CreateCampaignRequest(campaign=campaign("own", OWN)))
    for id_ in ("theirs", "running", "deleted"):
        await everyone.call(pb.CreateCampaignRequest(campaign=campaign(id_, OTHER)))
    await everyone.call(pb.StartCampaignRequest(id="running"))
    await everyone.call(pb.DeleteCampaignRequest(id="deleted"))
    return everyone


async def test_a_token_for_a_sender_is_refused_whatever_it_does_to_another_senders_campaign(
    pair: GuardedPair,
) -> None:
    everyone = await with_campaigns(pair)
    text = await pair.issue(*ALL, sender_ids=(OWN,))
    limited = Caller(pair, text)

    for name, request in WRITES.items():
        answer = await limited.answer(request())

        assert answer.code is grpc.StatusCode.PERMISSION_DENIED, name
        assert answer.reason == "ERROR_REASON_SENDER_NOT_ALLOWED", name
        assert answer.metadata == {"sender_id": OTHER, "token_id": id_in(text)}, name

    for id_, sender_id in (("own", OWN), ("theirs", OTHER)):
        # reading is not limited
        found = (await limited.call(pb.GetCampaignRequest(id=id_))).campaign
        assert (found.sender_id, found.status) == (sender_id, campaign_pb2.CAMPAIGN_STATUS_DRAFT)
        assert found == (await everyone.call(pb.GetCampaignRequest(id=id_))).campaign
    missing = await everyone.answer(pb.GetCampaignRequest(id="new"))
    assert missing.code is grpc.StatusCode.NOT_FOUND


async def test_a_token_for_a_sender_writes_and_starts_that_senders_campaigns(
    pair: GuardedPair,
) -> None:
    limited = Caller(pair, await pair.issue(*ALL, sender_ids=(OTHER, OWN)))

    await limited.call(pb.CreateCampaignRequest(campaign=campaign("own", OWN)))
    await limited.call(renamed("own"))
    await limited.call(handed_over("own", OTHER))
    await limited.call(pb.StartCampaignRequest(id="own"))
    while await limited.status("own") != campaign_pb2.CAMPAIGN_STATUS_COMPLETED:
        pass
    await limited.call(pb.DeleteCampaignRequest(id="own"))


async def test_a_token_that_may_not_read_is_not_told_that_a_campaign_exists(
    pair: GuardedPair,
) -> None:
    await with_campaigns(pair)
    blind = Caller(pair, await pair.issue(Scope.CAMPAIGNS_SEND, sender_ids=(OWN,)))

    for id_ in ("theirs", "running", "deleted", "nowhere"):
        answer = await blind.answer(pb.StopCampaignRequest(id=id_))
        assert answer == Answer(
            grpc.StatusCode.NOT_FOUND, "ERROR_REASON_CAMPAIGN_NOT_FOUND", {"campaign_id": id_}
        )
        assert answer == await blind.answer(pb.StartCampaignRequest(id=id_))


@pytest.mark.nightly
async def test_the_clock_starts_what_a_token_for_a_sender_has_scheduled(
    pair: GuardedPair,
) -> None:
    limited = Caller(pair, await pair.issue(*ALL, sender_ids=(OWN,)))
    await limited.call(pb.CreateCampaignRequest(campaign=campaign("own", OWN)))
    request = pb.StartCampaignRequest(id="own")
    request.scheduled_for.FromSeconds(int(datetime.now(UTC).timestamp()) + 2)

    await limited.call(request)
    while await limited.status("own") != campaign_pb2.CAMPAIGN_STATUS_COMPLETED:
        pass
