"""Push notifications with real servers and a real push gateway, while servers are killed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from herald.campaign.v1 import campaign_pb2
from herald.campaign.v1 import campaign_service_pb2 as campaign_pb
from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as chat_pb
from tests.harness import forkserver
from tests.harness.processes import Pair, running_pair
from tests.harness.push_gateway import Gateway, serving
from tests.journeys.test_events import CALL_SECONDS, add_users, in_thread, start_campaign

GUESTS = [f"guest-{number:03}" for number in range(200)]
# two seconds, in which messages are pushed a few at a time
SETTINGS = {"HERALD_LEASE_SECONDS": "1", "HERALD_MAX_MESSAGES_PER_SECOND": "100"}
CRASH = "HERALD_CRASH_AT"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@contextmanager
def running(database_url: str, logs: Path, gateway: Gateway, crash: str = "") -> Iterator[Pair]:
    settings = {**SETTINGS, "HERALD_PUSH_URL": gateway.url}
    settings |= {CRASH: crash} if crash else {}
    with running_pair(database_url, logs, settings, forkserver.run) as pair:
        yield pair


@pytest.fixture
def pair(database_url: str, tmp_path: Path, gateway: Gateway) -> Iterator[Pair]:
    with running(database_url, tmp_path / "logs", gateway) as pair:
        yield pair


@pytest.mark.nightly_on("postgresql")
async def test_a_campaign_tells_how_many_phones_it_was_pushed_to(
    pair: Pair, gateway: Gateway
) -> None:
    gateway.errors = {"phone-of-bob": "Unregistered"}
    async with serving(gateway):
        await in_thread(add_users, pair, ["acme", "ann", "bob", "cleo"])
        await in_thread(add_devices, pair, ["ann", "bob", "cleo"])
        await in_thread(mute, pair, "cleo")
        await in_thread(start_campaign, pair, ["ann", "bob", "cleo"])
        stats = await settled(pair, pushes=3)
        (pushed,) = gateway.taken

    assert (stats.pushes_sent, stats.pushes_failed, stats.pushes_skipped) == (1, 1, 1)
    assert (pushed["tokens"], pushed["message"]) == (["phone-of-ann"], "Hi Ann")
    assert (await in_thread(device_of, pair, "bob")).disabled_reason == "Unregistered"
    listed = await in_thread(query, pair)
    assert listed.stats == stats


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("crash", "loses"),
    [
        ("push.advance:before-commit:3", False),
        ("push.advance:after-commit:3", True),
        ("push.count:after-commit:3", False),
    ],
)
async def test_a_server_that_is_killed_while_it_pushes_pushes_to_nobody_twice(
    database_url: str, tmp_path: Path, gateway: Gateway, crash: str, *, loses: bool
) -> None:
    dead = GUESTS[7]
    gateway.errors = {f"phone-of-{dead}": "Unregistered"}
    async with serving(gateway):
        with running(database_url, tmp_path / "logs", gateway, crash) as pair:
            await in_thread(add_users, pair, ["acme", *GUESTS])
            await in_thread(add_devices, pair, GUESTS)
            await in_thread(start_campaign, pair, GUESTS)
            assert await in_thread(pair.campaign.wait) == -signal.SIGKILL
            before = len(gateway.taken)
            pair.campaign._environment = {**pair.campaign._environment, CRASH: ""}
            await in_thread(pair.campaign.start)
            await gateway.until(lambda: f"phone-of-{GUESTS[-1]}" in gateway.tokens)
            stats = await settled(pair)

    tokens = gateway.tokens
    everyone = {f"phone-of-{id_}" for id_ in GUESTS if id_ != dead}
    assert before < len(tokens), "it went on"
    assert len(tokens) == len(set(tokens)), "nobody twice"
    assert (everyone == set(tokens)) is not loses
    assert stats.pushes_sent <= len(tokens)


async def settled(pair: Pair, pushes: int = 0) -> campaign_pb2.CampaignStats:
    """The stats of the campaign when it is completed and so much has been pushed."""
    while True:
        stats = (await in_thread(get, pair)).stats
        counted = stats.pushes_sent + stats.pushes_failed + stats.pushes_skipped
        if stats.HasField("completed_at") and counted >= pushes:
            return stats


def get(pair: Pair) -> campaign_pb2.Campaign:
    request = campaign_pb.GetCampaignRequest(id="welcome")
    return pair.campaigns.GetCampaign(request, timeout=CALL_SECONDS).campaign


def query(pair: Pair) -> campaign_pb2.Campaign:
    request = campaign_pb.QueryCampaignsRequest()
    return pair.campaigns.QueryCampaigns(request, timeout=CALL_SECONDS).campaigns[0]


def add_devices(pair: Pair, user_ids: list[str]) -> None:
    devices = [
        chat_pb2.Device(id=f"phone-of-{id_}", user_id=id_, push_provider=chat_pb2.PUSH_PROVIDER_APN)
        for id_ in user_ids
    ]
    request = chat_pb.UpsertDevicesRequest(devices=devices)
    pair.chat.UpsertDevices(request, timeout=CALL_SECONDS)


def device_of(pair: Pair, user_id: str) -> chat_pb2.Device:
    """As it is stored: an insert leaves it alone."""
    device = chat_pb2.Device(
        id=f"phone-of-{user_id}", user_id=user_id, push_provider=chat_pb2.PUSH_PROVIDER_APN
    )
    request = chat_pb.UpsertDevicesRequest(devices=[device], mode=chat_pb.UPSERT_MODE_INSERT)
    return pair.chat.UpsertDevices(request, timeout=CALL_SECONDS).devices[0]


def mute(pair: Pair, user_id: str) -> None:
    user = chat_pb2.User(id=user_id)
    user.push_preferences.update({"chat_level": "none"})
    pair.chat.UpsertUsers(chat_pb.UpsertUsersRequest(users=[user]), timeout=CALL_SECONDS)
