"""New messages on the phones of their receivers, through a real push gateway."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select

from campaign_service.campaigns.pushes import PushCounts, is_muted
from campaign_service.storage.event_tables import campaign_pushes
from campaign_service.storage.holds import SqlHoldStore
from chat_store.database.engine import Database
from chat_store.models import Device, PushProvider, User
from tests.campaign.builders import MOMENT, SENDER_ID
from tests.events.pushing import APN, FIREBASE, HUAWEI, TTL, Pushing, a_device
from tests.harness.push_gateway import ANDROID, Gateway, serving

pytestmark = pytest.mark.nightly_on("postgresql")

HOUR = timedelta(hours=1)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with serving(Gateway()) as gateway:
        yield gateway


@pytest.fixture
async def pushing(database: Database, gateway: Gateway) -> Pushing:
    pushing = Pushing(database, gateway.url)
    await pushing.store.begin()
    return pushing


async def reasons(database: Database) -> Mapping[str, int]:
    """The pushes that were not sent, by their reasons."""
    columns = campaign_pushes.c
    async with database.snapshot() as connection:
        rows = await connection.execute(
            select(columns.reason, columns.pushes).where(columns.reason != "")
        )
        return {row.reason: row.pushes for row in rows}


async def devices(pushing: Pushing) -> dict[str, Device]:
    """Those of the members of `messaging:all`."""
    found = await pushing.chat.devices.of_members(["messaging:all"], ("", ""), 1_000)
    return {device.id: device for member in found for device in member.devices}


async def test_each_phone_of_each_receiver_gets_the_message_once(
    pushing: Pushing, gateway: Gateway
) -> None:
    await pushing.register(
        a_device("a-iphone", "ann", APN),
        a_device("a-tablet", "ann", FIREBASE),
        a_device("b-phone", "bob", HUAWEI),
        a_device("sender-s", SENDER_ID),
        a_device("not-asked", "cleo"),
    )
    await pushing.send(["ann", "bob", "dan"])

    await pushing.push()
    await pushing.push()

    assert gateway.tokens == ["a-iphone", "a-tablet", "b-phone"]
    assert await pushing.counts() == PushCounts(sent=3)
    (to_iphone,) = [each for each in gateway.taken if each["tokens"] == ["a-iphone"]]
    data = to_iphone.pop("data")
    assert to_iphone == {
        "notif_id": to_iphone["notif_id"],
        "tokens": ["a-iphone"],
        "platform": 1,
        "title": "Acme",
        "message": "Hi ann",
    }
    message = (await pushing.chat.messages.of_targets("spring", ["ann"]))["ann"]
    assert data == {
        "type": "message.new",
        "id": message.id,
        "cid": "messaging:spring-ann",
        "channel_type": "messaging",
        "channel_id": "spring-ann",
        "campaign_id": "spring",
        "receiver_id": "ann",
    }
    assert len({each["notif_id"] for each in gateway.taken}) == 3
    platforms = {each["tokens"][0]: each["platform"] for each in gateway.taken}
    assert platforms == {"a-iphone": 1, "a-tablet": 2, "b-phone": 3}


async def test_a_long_text_and_a_long_name_are_cut_to_what_providers_take(
    pushing: Pushing, gateway: Gateway
) -> None:
    await pushing.register(a_device("token", "ann"))
    await pushing.chat.users.upsert([User(id=SENDER_ID, name="😀" * 500)], MOMENT)
    await pushing.send(["ann"], text="ü" * 20_000)

    await pushing.push()

    (taken,) = gateway.taken
    assert taken["title"] == "😀" * 99 + "…"
    assert taken["message"] == "ü" * 299 + "…"


async def test_all_members_of_a_channel_but_the_author_are_pushed_to(
    pushing: Pushing, gateway: Gateway
) -> None:
    people = [f"p{number:04}" for number in range(1_201)]
    await pushing.register(*(a_device(f"token-{id_}", id_) for id_ in people))
    await pushing.register(a_device("sender-s", SENDER_ID))
    await pushing.join("messaging:spring-room", SENDER_ID, *people)
    await pushing.send_to_existing("room")

    await pushing.push()

    assert gateway.tokens == [f"token-{id_}" for id_ in people]
    assert await pushing.counts() == PushCounts(sent=len(people))


@pytest.mark.parametrize(
    ("devices", "pushed"),
    [
        ({"old": {}, "new": {"created_at": MOMENT + HOUR}}, "new"),
        ({"new": {"created_at": MOMENT + HOUR}, "old": {}}, "new"),
        ({"apn": {}, "mi": {"push_provider": PushProvider.XIAOMI}}, "apn"),
        (
            {"one": {}, "two": {"push_provider": FIREBASE}, "three": {"push_provider": HUAWEI}},
            "two",
        ),
    ],
    ids=["the newest", "in any order", "one that is served", "three providers"],
)
async def test_a_phone_that_is_registered_several_times_gets_one_push(
    pushing: Pushing, gateway: Gateway, devices: Mapping[str, Mapping[str, Any]], pushed: str
) -> None:
    await pushing.register(
        *(a_device(id_, "ann", **{"hardware_id": "7", **given}) for id_, given in devices.items()),
        a_device("other-phone", "ann", hardware_id="8"),
        a_device("same-phone-of-bob", "bob", hardware_id="7"),
    )
    await pushing.send(["ann", "bob"])

    await pushing.push()

    assert gateway.tokens == sorted([pushed, "other-phone", "same-phone-of-bob"])
    assert await pushing.counts() == PushCounts(sent=3)


async def test_a_device_that_is_disabled_leaves_the_phone_to_the_others(
    pushing: Pushing, gateway: Gateway
) -> None:
    newer = a_device("newer", "ann", hardware_id="7", created_at=MOMENT + HOUR)
    await pushing.register(a_device("older", "ann", hardware_id="7"), newer)
    await pushing.chat.devices.disable({"newer": "gone"})
    await pushing.send(["ann"])

    await pushing.push()

    assert gateway.tokens == ["older"]


@pytest.mark.parametrize(
    ("preferences", "muted"),
    [
        ({}, False),
        ({"chat_level": "all"}, False),
        ({"chat_level": "default"}, False),
        ({"chat_level": "something new"}, False),
        ({"chat_level": ["none"]}, False),
        ({"chat_level": "none"}, True),
        ({"chat_level": "mentions"}, True),
        ({"chat_level": "direct_mentions"}, True),
        ({"chat_level": "all_mentions"}, True),
        ({"disabled_until": "2026-03-01T12:00:01Z"}, True),
        ({"disabled_until": "2026-03-01T12:00:01"}, True),
        ({"disabled_until": "2026-03-01T13:00:00+02:00"}, False),
        ({"disabled_until": "2026-03-01T12:00:00Z"}, False),
        ({"disabled_until": "2026-03-01T11:59:59Z", "chat_level": "all"}, False),
        ({"disabled_until": "tomorrow"}, False),
        ({"disabled_until": 7}, False),
        ({"disabled_until": None}, False),
    ],
    ids=str,
)
def test_a_user_s_push_preferences_mute_plain_messages(
    preferences: Mapping[str, Any], *, muted: bool
) -> None:
    assert is_muted(preferences, MOMENT) is muted


@pytest.mark.parametrize(
    "reason", ["deactivated", "deleted", "muted", "disabled", "xiaomi", "not enabled"]
)
async def test_a_phone_that_can_t_be_pushed_to_is_skipped_with_the_reason(
    pushing: Pushing, gateway: Gateway, reason: str
) -> None:
    provider = PushProvider.XIAOMI if reason == "xiaomi" else APN
    await pushing.register(a_device("token", "ann", provider), a_device("other", "bob", FIREBASE))
    gateway.enabled = [ANDROID] if reason == "not enabled" else gateway.enabled
    await pushing.send(["ann", "bob"])
    match reason:
        case "deactivated":
            await pushing.chat.users.deactivate(["ann"], MOMENT)
        case "deleted":
            await pushing.chat.users.delete(["ann"], MOMENT)
        case "muted":
            muted = User(id="ann", push_preferences={"chat_level": "none"})
            await pushing.chat.users.upsert([muted], MOMENT)
        case "disabled":
            await pushing.chat.devices.disable({"token": "gone"})
        case _:
            pass

    await pushing.push()

    assert gateway.tokens == ["other"]
    assert await pushing.counts() == PushCounts(sent=1, skipped=1)
    recorded = {
        "deactivated": "user_inactive",
        "deleted": "user_inactive",
        "muted": "muted",
        "disabled": "device_disabled",
        "xiaomi": "provider_not_served",
        "not enabled": "provider_not_served",
    }
    assert await reasons(pushing.database) == {recorded[reason]: 1}


@pytest.mark.parametrize(
    ("skip_push", "skip_webhook"), [(False, False), (False, True), (True, False), (True, True)]
)
async def test_skip_push_alone_mutes_pushes(
    pushing: Pushing, gateway: Gateway, *, skip_push: bool, skip_webhook: bool
) -> None:
    await pushing.register(a_device("token", "ann"))
    await pushing.send(["ann"], skip_push=skip_push, skip_webhook=skip_webhook)

    await pushing.push()

    assert gateway.tokens == ([] if skip_push else ["token"])
    assert await pushing.counts() == PushCounts(sent=0 if skip_push else 1)


async def test_a_message_that_has_become_too_old_is_skipped(
    pushing: Pushing, gateway: Gateway
) -> None:
    await pushing.register(a_device("token", "ann"), a_device("tablet", "ann"))
    await pushing.send(["ann"])
    pushing.later(TTL - timedelta(seconds=1))
    await pushing.push()
    await pushing.send(["ann"], "summer")
    pushing.later(timedelta(seconds=1))

    await pushing.push()

    assert len(gateway.taken) == 2
    assert await pushing.counts("summer") == PushCounts(skipped=2)
    assert await reasons(pushing.database) == {"expired": 2}


@pytest.mark.parametrize("failure", ["400", "500", "307", "reset"])
async def test_a_request_that_fails_is_counted_and_not_repeated(
    pushing: Pushing, gateway: Gateway, failure: str
) -> None:
    async def fail(request: web.Request) -> web.StreamResponse:
        if failure == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(status=int(failure), headers={"Location": str(request.url)})

    gateway.answer = fail
    await pushing.register(a_device("a", "ann"), a_device("b", "bob"))
    await pushing.send(["ann", "bob"])

    await pushing.push()
    gateway.answer = Gateway().answer
    await pushing.push()

    assert len(gateway.requests) == 1
    assert await pushing.counts() == PushCounts(failed=2)
    expected = "no_answer" if failure == "reset" else "refused"
    assert await reasons(pushing.database) == {expected: 2}


async def test_a_gateway_that_reports_nothing_has_taken_all(
    pushing: Pushing, gateway: Gateway
) -> None:
    contents = ["", "ok", "[]", "7", '{"counts": "many", "logs": 7}', '{"logs": [7, {"type": 7}]}']

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=contents[len(gateway.requests) - 1])

    gateway.answer = answer
    await pushing.register(a_device("a", "ann"))
    for number in range(len(contents)):
        await pushing.send(["ann"], f"c{number}")
        await pushing.push()

        assert await pushing.counts(f"c{number}") == PushCounts(sent=1)


@pytest.mark.parametrize("hides", [True, False], ids=["tokens hidden", "tokens shown"])
async def test_a_device_that_the_gateway_reports_as_unregistered_is_disabled_with_the_reason(
    pushing: Pushing, gateway: Gateway, *, hides: bool
) -> None:
    errors = {
        "apns": "Unregistered",
        "apns-expired": "ExpiredToken",
        "firebase": "Requested entity was not found.",
        "firebase-code": "registration-token-not-registered",
        "firebase-old": "NotRegistered",
        "firebase-v1": "UNREGISTERED",
        "long": "unregistered" * 100,
    }
    gateway.errors, gateway.hides = errors, hides
    await pushing.register(*(a_device(id_, "ann") for id_ in [*errors, "alive"]))
    await pushing.join("messaging:all", "ann")
    await pushing.send(["ann"])

    await pushing.push()
    await pushing.send(["ann"], "summer")
    await pushing.push()

    dead = len(errors)
    assert gateway.tokens == ["alive", "alive"]
    assert await pushing.counts() == PushCounts(sent=1, failed=dead)
    assert await pushing.counts("summer") == PushCounts(sent=1, skipped=dead)
    assert await reasons(pushing.database) == {"unregistered": dead, "device_disabled": dead}
    found = await devices(pushing)
    assert not found.pop("alive").disabled
    assert all(device.disabled for device in found.values())
    recorded = {id_: device.disabled_reason for id_, device in found.items()}
    assert recorded == {id_: error[:255] for id_, error in errors.items()}


async def test_a_device_that_is_registered_again_is_pushed_to_again(
    pushing: Pushing, gateway: Gateway
) -> None:
    gateway.errors = {"token": "Unregistered"}
    await pushing.register(a_device("token", "ann"))
    await pushing.send(["ann"])
    await pushing.push()
    gateway.errors = {}

    await pushing.register(a_device("token", "ann"))
    await pushing.send(["ann"], "summer")
    await pushing.push()

    assert gateway.tokens == ["token"]
    assert await pushing.counts("summer") == PushCounts(sent=1)


async def test_other_failures_of_a_device_leave_it_enabled(
    pushing: Pushing, gateway: Gateway
) -> None:
    gateway.errors = {
        "a": "BadDeviceToken",
        "b": "TooManyRequests",
        "c": "",
        "d": "SenderId mismatch",
    }
    await pushing.register(*(a_device(id_, "ann") for id_ in gateway.errors))
    await pushing.join("messaging:all", "ann")
    await pushing.send(["ann"])

    await pushing.push()

    assert await pushing.counts() == PushCounts(failed=4)
    assert await reasons(pushing.database) == {"refused": 4}
    assert not any(device.disabled for device in (await devices(pushing)).values())


async def test_what_was_before_the_first_server_with_a_gateway_is_neither_pushed_nor_counted(
    database: Database, gateway: Gateway
) -> None:
    pushing = Pushing(database, gateway.url)
    await pushing.register(a_device("token", "ann"))
    await pushing.send(["ann"])

    await pushing.store.begin()
    await pushing.push()
    assert gateway.tokens == []
    assert await pushing.counts() == PushCounts()

    await pushing.send(["ann"], "summer")
    # a later start does not begin anew
    await pushing.store.begin()
    await pushing.push()
    assert gateway.tokens == ["token"]


async def test_two_pushers_share_the_work_and_push_nothing_twice(
    pushing: Pushing, gateway: Gateway
) -> None:
    people = [f"p{number:04}" for number in range(200)]
    await pushing.register(*(a_device(f"token-{id_}", id_) for id_ in people))
    other = pushing.another_pusher()
    for number in range(6):
        await pushing.send(people[number::6], f"c{number}")
        await asyncio.gather(pushing.push(), other.run_once())

    assert gateway.tokens == [f"token-{id_}" for id_ in people]


async def test_a_pusher_that_dies_in_a_request_repeats_none_of_its_pushes(
    pushing: Pushing, gateway: Gateway
) -> None:
    async def hang(_: web.Request) -> web.StreamResponse:
        return await asyncio.Future[web.StreamResponse]()

    gateway.answer = hang
    await pushing.register(a_device("a", "ann"), a_device("b", "bob"))
    await pushing.send(["ann"])
    dying = asyncio.create_task(pushing.push())
    await gateway.until(lambda: len(gateway.requests) == 1)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    gateway.answer = Gateway().answer
    await pushing.send(["bob"], "summer")

    await pushing.another_pusher().run_once()

    assert gateway.tokens == ["b"]
    assert len(gateway.requests) == 2


async def test_a_held_database_pushes_nothing_until_it_is_released(
    pushing: Pushing, gateway: Gateway
) -> None:
    await pushing.register(a_device("token", "ann"))
    await pushing.send(["ann"])
    holds = SqlHoldStore(pushing.database)
    await holds.begin(start_held=True)
    await pushing.push()
    assert gateway.requests == []

    await holds.release()
    await pushing.push()

    assert gateway.tokens == ["token"]


@pytest.mark.parametrize("outage", ["down", "429", "503"])
async def test_pushes_wait_for_a_gateway_that_takes_none(database: Database, outage: str) -> None:
    gateway = Gateway()
    pushing = Pushing(database, gateway.url)
    await pushing.store.begin()
    await pushing.register(a_device("a", "ann"), a_device("b", "bob"), a_device("c", "cleo"))
    stop = asyncio.Event()
    refused = asyncio.Event()

    async def refuse(_: web.Request) -> web.StreamResponse:
        refused.set()
        return web.Response(status=int(outage))

    running = asyncio.create_task(pushing.pusher.run(stop))
    await pushing.send(["ann"])
    if outage != "down":
        gateway.answer = refuse
        async with serving(gateway):
            await refused.wait()
            gateway.answer = Gateway().answer
            await pushing.send(["bob"], "summer")
            await gateway.until(lambda: len(gateway.taken) == 2)
    else:
        await waits_for_gateway(pushing)
        await pushing.send(["bob"], "summer")
        async with serving(gateway):
            await gateway.until(lambda: len(gateway.taken) == 2)
    assert pushing.pusher.is_well
    stop.set()
    await running

    assert gateway.tokens == ["a", "b"]
    assert await pushing.counts() == await pushing.counts("summer") == PushCounts(sent=1)


async def test_pushes_that_outlive_their_time_while_the_gateway_is_down_are_dropped_and_counted(
    database: Database,
) -> None:
    gateway = Gateway()
    pushing = Pushing(database, gateway.url)
    await pushing.store.begin()
    await pushing.register(a_device("a", "ann"), a_device("b", "bob"))
    stop = asyncio.Event()
    running = asyncio.create_task(pushing.pusher.run(stop))
    await pushing.send(["ann"])
    await waits_for_gateway(pushing)
    pushing.later(TTL)
    await pushing.send(["bob"], "summer")
    while await pushing.counts("summer") == PushCounts():  # noqa: ASYNC110 - of the database
        await asyncio.sleep(0)
    stop.set()
    await running

    assert await pushing.counts() == await pushing.counts("summer") == PushCounts(skipped=1)
    assert await reasons(database) == {"expired": 1}


async def test_a_stop_gives_up_what_waits_for_the_gateway(database: Database) -> None:
    pushing = Pushing(database, Gateway().url)
    await pushing.store.begin()
    await pushing.register(a_device("a", "ann"))
    await pushing.send(["ann"])
    stop = asyncio.Event()
    running = asyncio.create_task(pushing.pusher.run(stop))
    await waits_for_gateway(pushing)

    stop.set()
    await running

    assert await pushing.counts() == PushCounts(failed=1)


async def waits_for_gateway(pushing: Pushing) -> None:
    """Returns when the gateway has refused a request, of which nothing but a log line is seen."""
    while not pushing.pusher._gateway_outages:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0)
