"""What became of a campaign's targets, a page at a time."""

from datetime import timedelta
from itertools import cycle, islice, pairwise, product
from random import Random
from typing import Any

import grpc
import pytest
from sqlalchemy import Engine, event, text

from campaign_service.campaigns.outcomes import Delivery, Outcome, Reason
from campaign_service.storage.campaigns import SqlCampaignStore
from campaign_service.storage.deliveries import SqlDeliveryStore
from campaign_service.storage.tables import campaign_outcomes
from chat_store.database.bulk.inserts import insert_rows
from chat_store.database.engine import Database, open_database
from chat_store.models import Message
from chat_store.paging import Cursor, PageRequest
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft
from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as pb
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_campaign_message,
    a_channel,
    a_spec,
    a_user,
)
from tests.campaign.refusals import refusal_of
from tests.campaign.server_pair import ServerPair, start_pair

pytestmark = pytest.mark.nightly_on("postgresql")

REASONS = list(Reason)
EVERY_WAY = list(product([None, *Outcome], [False, True]))
# in bytewise order, which is no locale's
TARGETS = sorted(
    [f"{start}{number:02}" for start in "Zaé😀-" for number in range(12)], key=str.encode
)
SKIPPED, FAILED, SENT = (
    campaign_pb2.DELIVERY_OUTCOME_SKIPPED,
    campaign_pb2.DELIVERY_OUTCOME_FAILED,
    campaign_pb2.DELIVERY_OUTCOME_SENT,
)


async def handled(database: Database, deliveries: list[Delivery], id_: str = "spring") -> None:
    """Writes what a run would have written."""
    await SqlCampaignStore(database).create(id_, a_spec(), MOMENT, to_channels=False)
    sent = [delivery for delivery in deliveries if delivery.outcome is Outcome.SENT]
    refused = [delivery for delivery in deliveries if delivery.outcome is not Outcome.SENT]
    lobby = a_channel("lobby")
    chat = sql_chat_store(database)
    await chat.channels.upsert([ChannelDraft(lobby)], MOMENT)
    messages = [
        Message(
            id=delivery.message_id or "",
            cid=delivery.cid or "",
            user_id=SENDER_ID,
            campaign_id=id_,
            target_id=delivery.target_id,
            created_at=delivery.created_at,
        )
        for delivery in sent
    ]
    await chat.messages.upsert(messages, MOMENT)
    names = ("target_id", "outcome", "reason", "cid", "created_at")
    columns = {name: [getattr(delivery, name) for delivery in refused] for name in names}
    async with database.transaction() as connection:
        if refused:
            await connection.execute(
                *insert_rows(
                    database.dialect,
                    campaign_outcomes,
                    columns,
                    constants={"campaign_id": id_},
                )
            )


def a_delivery(target_id: str, reason: Reason | None, *, of: str = "spring") -> Delivery:
    return Delivery(
        target_id=target_id,
        outcome=Outcome.SENT if reason is None else reason.outcome,
        reason=reason,
        message_id=f"{of}-{target_id}" if reason is None else None,
        cid="messaging:lobby" if reason in (None, Reason.CHANNEL_FROZEN) else None,
        created_at=MOMENT + timedelta(microseconds=len(target_id)),
    )


def some_deliveries(targets: list[str]) -> list[Delivery]:
    """Half of them sent, the others for every reason there is."""
    reasons = cycle([reason for each in REASONS for reason in (None, each)])
    return [a_delivery(*pair) for pair in zip(targets, reasons, strict=False)]


async def walk(
    store: SqlDeliveryStore, outcome: Outcome | None, sizes: Random, *, backward: bool
) -> list[Delivery]:
    """Everything from one end to the other, in pages of any size."""
    cursor: Cursor | None = Cursor((), backward=backward)
    found: list[Delivery] = []
    while cursor is not None:
        request = PageRequest(sizes.randint(1, 30), (), cursor)
        page = await store.of_campaign("spring", outcome, request)
        found = [*page.items, *found] if backward else [*found, *page.items]
        assert 0 < len(page.items) <= request.size
        assert len(found) <= len(TARGETS)
        cursor = page.prev_cursor if backward else page.next_cursor
    return found


# --- pages


async def test_pages_of_any_size_are_the_whole_in_bytewise_order(database: Database) -> None:
    deliveries = some_deliveries(TARGETS)
    await handled(database, deliveries)
    await handled(database, [a_delivery("a00x", None, of="other")], "other")
    store = SqlDeliveryStore(database)

    for seed, (outcome, backward) in enumerate(EVERY_WAY):
        expected = [each for each in deliveries if outcome in (None, each.outcome)]
        sizes = Random(seed)  # noqa: S311 - no secret
        assert await walk(store, outcome, sizes, backward=backward) == expected


async def test_what_is_decided_between_pages_neither_repeats_nor_hides_others(
    database: Database,
) -> None:
    before = some_deliveries(TARGETS[::2])
    await handled(database, before)
    store = SqlDeliveryStore(database)
    late = iter(some_deliveries(TARGETS[1::2]))
    cursor: Cursor | None = Cursor(())
    found: list[Delivery] = []
    while cursor is not None:
        page = await store.of_campaign("spring", None, PageRequest(7, (), cursor))
        found += page.items
        cursor = page.next_cursor
        await handled(database, list(islice(late, 5)))

    targets = [delivery.target_id.encode() for delivery in found]
    assert all(one < other for one, other in pairwise(targets))
    assert {delivery.target_id for delivery in before} <= {each.target_id for each in found}


async def test_a_page_is_read_by_index_ranges(database: Database) -> None:
    await handled(database, some_deliveries([f"{number:05}" for number in range(4_000)]))
    async with database.transaction() as connection:
        await connection.execute(text("ANALYZE"))

    for outcome, backward in EVERY_WAY:
        cursor = Cursor(("02000",), backward=backward)
        steps = await plan(database, outcome, PageRequest(20, (), cursor))
        relation = "<" if backward else ">"
        if database.dialect == "sqlite":
            searched = [step for step in steps if step.startswith("SEARCH")]
            assert all(f"target_id{relation}?)" in step for step in searched), steps
            # a branch's own page
            assert all(" anon_" in step for step in steps if step.startswith("SCAN")), steps
        else:
            searched = [step for step in steps if " Cond: " in step and f" {relation} " in step]
            assert not [step for step in steps if "Seq Scan" in step or "Parallel" in step], steps
            assert max(map(rows_given, steps)) <= 2 * 21, steps
        assert len(searched) == (2 if outcome is None else 1), steps


EXPLAIN = {
    "sqlite": "EXPLAIN QUERY PLAN ",
    "postgresql": "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ",
}


async def plan(database: Database, outcome: Outcome | None, page: PageRequest) -> list[str]:
    """The steps by which the database reads the page."""
    statements: list[tuple[str, Any]] = []

    def keep(_: Any, __: Any, statement: str, parameters: Any, ___: Any, ____: Any) -> None:
        statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", keep)
    await SqlDeliveryStore(database).of_campaign("spring", outcome, page)
    event.remove(Engine, "before_cursor_execute", keep)
    statement, parameters = statements[-1]
    async with database.snapshot() as connection:
        rows = await connection.exec_driver_sql(EXPLAIN[database.dialect] + statement, parameters)
        return [str(row[-1]) for row in rows]


def rows_given(step: str) -> float:
    """How many rows PostgreSQL had from this step."""
    _, _, rest = step.partition("actual rows=")
    return float(rest.split()[0]) if rest else 0


# --- the call


async def deliveries(services: ServerPair, **changes: Any) -> Any:
    request = pb.QueryDeliveriesRequest(**{"campaign_id": "spring", **changes})
    return await services.campaigns.QueryDeliveries(request)


async def test_every_target_of_a_run_has_its_delivery(
    database: Database, database_url: str
) -> None:
    """Also when the campaign is deleted: what was done stays done."""
    chat = sql_chat_store(database)
    people = [
        a_user(id_) for id_ in (SENDER_ID, "ann", "away", "bob", "cold", "gone", "late", "lost")
    ]
    await chat.users.upsert(people, MOMENT)
    await chat.users.delete(["gone"], MOMENT)
    channels = [a_channel("cold-acme", frozen=True), a_channel("lost-acme"), a_channel("bob-acme")]
    channels.append(a_channel("away-acme"))
    await chat.channels.upsert(
        [ChannelDraft(channel, [SENDER_ID, "bob"]) for channel in channels], MOMENT
    )
    await chat.channels.delete(["messaging:lost-acme"], MOMENT)
    template = {"text": "{% if receiver.id == 'late' %}{{ 'x' * 20001 }}{% endif %}"}
    targets = ["nobody", *(user.id for user in people[1:])]
    async with start_pair(database_url, page_size=2) as services:
        await services.create(
            a_campaign_message({"user_ids": targets, "message_template": template})
        )
        before = await deliveries(services)
        await services.start()
        await services.until_completed()
        await services.campaigns.DeleteCampaign(pb.DeleteCampaignRequest(id="spring"))
        answer = await deliveries(services)
        first = await deliveries(services, page_size=3)
        second = await deliveries(services, page_size=3, page_token=first.next_page_token)
        back = await deliveries(services, page_size=3, page_token=second.prev_page_token)
        skipped = await deliveries(services, outcome=SKIPPED)

    stored = {m.target_id: m for m in (await chat.messages.of_campaign("spring", ALL)).items}
    assert list(before.deliveries) == []
    assert {
        each.target_id: (each.outcome, campaign_pb2.DeliveryReason.Name(each.reason)[16:], each.cid)
        for each in answer.deliveries
    } == {
        "ann": (SENT, "UNSPECIFIED", "messaging:ann-acme"),
        "away": (SKIPPED, "RECEIVER_NOT_MEMBER", "messaging:away-acme"),
        "bob": (SENT, "UNSPECIFIED", "messaging:bob-acme"),
        "cold": (SKIPPED, "CHANNEL_FROZEN", "messaging:cold-acme"),
        "gone": (SKIPPED, "USER_DELETED", ""),
        "late": (FAILED, "MESSAGE_TOO_LONG", ""),
        "lost": (SKIPPED, "CHANNEL_NOT_FOUND", "messaging:lost-acme"),
        "nobody": (SKIPPED, "USER_NOT_FOUND", ""),
    }
    for each in answer.deliveries:
        message = stored.get(each.target_id)
        assert each.message_id == (message.id if message else "")
        assert each.HasField("created_at")
        if message and message.created_at:
            assert each.created_at.ToMicroseconds() == message.created_at.timestamp() * 1_000_000
    whole = list(answer.deliveries)
    assert [each.target_id for each in whole] == sorted(targets)
    assert [*first.deliveries, *second.deliveries] == whole[:6]
    assert list(back.deliveries) == whole[:3]
    assert (first.prev_page_token, answer.next_page_token) == ("", "")
    assert list(skipped.deliveries) == [each for each in whole if each.outcome == SKIPPED]


ALL = PageRequest(1_000)


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no campaign": ({"campaign_id": ""}, "INVALID_FIELD", "campaign_id"),
    "a long id": ({"campaign_id": "x" * 256}, "LIMIT_EXCEEDED", "campaign_id"),
    "an id with NUL": ({"campaign_id": "a\0"}, "INVALID_FIELD", "campaign_id"),
    "no such outcome": ({"outcome": 99}, "INVALID_FIELD", "outcome"),
    "a negative page": ({"page_size": -1}, "INVALID_FIELD", "page_size"),
    "a damaged token": ({"page_token": "x"}, "INVALID_PAGE_TOKEN", "page_token"),
}


@pytest.mark.parametrize(("changes", "reason", "field"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
async def test_a_bad_request_is_refused_at_its_field(
    refusing_services: ServerPair, changes: dict[str, Any], reason: str, field: str
) -> None:
    await refusing_services.create(a_campaign_message())

    refusal = await refusal_of(deliveries(refusing_services, **changes))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert (refusal.fields, refusal.metadata["field"]) == ((field,), field)


async def test_an_unknown_campaign_has_no_deliveries(refusing_services: ServerPair) -> None:
    refusal = await refusal_of(deliveries(refusing_services, campaign_id="never"))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_NOT_FOUND")
    assert refusal.metadata == {"campaign_id": "never"}


async def test_a_page_has_25_deliveries_or_at_most_1000_and_a_token_of_its_own(
    sqlite_url: str,
) -> None:
    database = open_database(sqlite_url)
    await handled(database, some_deliveries([f"{number:04}" for number in range(1_001)]))
    await handled(database, [a_delivery("ann", None, of="other")], "other")
    await database.close()
    async with start_pair(sqlite_url) as services:
        answers = [await deliveries(services, page_size=size) for size in (0, 5, 5_000)]
        token = (await deliveries(services, outcome=SKIPPED, page_size=1)).next_page_token
        mine = {"outcome": SKIPPED, "page_token": token}
        assert (await deliveries(services, **mine)).deliveries
        for other in ({"campaign_id": "other"}, {"outcome": SENT}, {"outcome": None}):
            refusal = await refusal_of(deliveries(services, **{**mine, **other}))
            assert (refusal.reason, refusal.fields) == ("INVALID_PAGE_TOKEN", ("page_token",)), (
                other
            )

    assert [len(answer.deliveries) for answer in answers] == [25, 5, 1_000]
