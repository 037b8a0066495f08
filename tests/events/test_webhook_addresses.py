"""Where webhooks may go: what is refused is not even connected to."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from campaign_service.campaigns.addresses import AddressPolicy, AddressRefusedError, Rules
from campaign_service.campaigns.webhooks import AttemptOutcome
from campaign_service.events.http_client import Answer, open_client
from chat_store.database.engine import Database
from tests.events.dispatching import Deliveries, a_sent_campaign

# forms of one address, as clients and resolvers read them
LOOPBACK = [
    "127.0.0.1",
    "127.8.9.10",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0.0.0.0",  # noqa: S104 - nobody listens on it here
    "0",
    "localhost",
    "LOCALHOST",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "[fc00::1]",
    "[fd12:3456::1]",
    "[::ffff:10.0.0.1]",
    "[64:ff9b::a00:1]",
    "167772161",
]
LINK_LOCAL = [
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "[fe80::1]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[fd00:ec2::254]",
    "100.100.100.200",
]


class Listener:
    """Counts who connects to it."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    async def serve(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()


@asynccontextmanager
async def listening(*hosts: str) -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.serve, hosts[0], 0)
    listener.port = server.sockets[0].getsockname()[1]
    others = [await asyncio.start_server(listener.serve, host, listener.port) for host in hosts[1:]]
    try:
        yield listener
    finally:
        for each in (server, *others):
            each.close()


async def sent_to(host: str, port: int, *, allow: str = "", deny: str = "") -> Answer:
    policy = AddressPolicy(Rules.read(allow), Rules.read(deny))
    async with open_client(policy) as client:
        return await client.post(f"http://{host}:{port}/", {}, b"{}", 5)


@pytest.mark.parametrize("host", [*LOOPBACK, *PRIVATE])
async def test_denied_addresses_get_not_one_packet(host: str) -> None:
    async with listening("127.0.0.1", "::1") as listener:
        answer = await sent_to(host, listener.port, deny="loopback,private")

        assert listener.connections == 0
    assert answer.refused, answer
    kind = "loopback" if host in LOOPBACK else "private"
    assert answer.error.endswith(f"is refused: {kind}")


@pytest.mark.parametrize("settings", [{}, {"allow": "loopback,private,public,169.254.0.0/16"}])
@pytest.mark.parametrize("host", LINK_LOCAL)
async def test_link_local_addresses_are_refused_under_any_setting(
    host: str, settings: dict[str, str]
) -> None:
    answer = await sent_to(host, 80, **settings)

    assert answer.refused, answer
    assert answer.error.endswith("is refused: link-local")


@pytest.mark.parametrize(
    ("settings", "host", "is_sent"),
    [
        ({}, "127.0.0.1", True),
        ({}, "localhost", True),
        ({"allow": "loopback"}, "127.0.0.1", True),
        ({"allow": "127.0.0.0/8"}, "127.0.0.1", True),
        ({"allow": "localhost"}, "localhost", True),
        ({"allow": "localhost"}, "127.0.0.1", False),
        ({"allow": "public"}, "127.0.0.1", False),
        ({"allow": "hooks.example.com"}, "localhost", False),
        ({"allow": "loopback", "deny": "127.0.0.1/32"}, "127.0.0.1", False),
        ({"deny": "localhost"}, "localhost", False),
        ({"deny": "private,public"}, "127.0.0.1", True),
    ],
)
async def test_the_settings_say_where_webhooks_may_go(
    settings: dict[str, str], host: str, *, is_sent: bool
) -> None:
    async with listening("127.0.0.1") as listener:
        answer = await sent_to(host, listener.port, **settings)

        assert listener.connections == is_sent
    assert (answer.status == 200, answer.refused) == (is_sent, not is_sent)


async def test_a_name_that_comes_to_mean_another_address_is_checked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    meanings = ["127.0.0.2", "127.0.0.1"]
    resolve = socket.getaddrinfo

    def rebinding(host: Any, *args: Any, **options: Any) -> Sequence[Any]:
        is_numeric = options.get("flags") == socket.AI_NUMERICHOST
        if host == "rebinding.test" and not is_numeric:
            host = meanings.pop(0)
        return resolve(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    policy = AddressPolicy(Rules(), Rules.read("127.0.0.1"))
    async with listening("127.0.0.2", "127.0.0.1") as listener, open_client(policy) as client:
        url = f"http://rebinding.test:{listener.port}/"
        first = await client.post(url, {}, b"{}", 5)
        second = await client.post(url, {}, b"{}", 5)

        assert listener.connections == 1
    assert (first.status, second.refused) == (200, True)
    assert meanings == [], "it was resolved once for each connection, and not again to connect"


@pytest.mark.parametrize("text", ["10.0.0.0/33", "a/b", "http://x", "*", "in ternal", "1.2.3.4/x"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        Rules.read(text)


@pytest.mark.parametrize("host", [*PRIVATE[:3], *LINK_LOCAL[:1], "[::1]"])
async def test_a_webhook_to_a_refused_address_is_not_created(database: Database, host: str) -> None:
    deliveries = Deliveries(database, datetime.now(UTC), deny="loopback,private")

    with pytest.raises(AddressRefusedError):
        await deliveries.create(f"https://{host}/hook")

    assert await deliveries.store.all() == []


async def test_an_event_for_a_refused_address_is_dead_with_the_reason(
    database: Database,
) -> None:
    deliveries = Deliveries(database, datetime.now(UTC), deny="loopback")
    async with listening("127.0.0.1") as listener:
        await deliveries.create(f"http://localhost:{listener.port}/hook")
        await a_sent_campaign(database, "spring", [])

        await deliveries.deliver()

        assert listener.connections == 0
    attempts = await deliveries.all_attempts()
    assert {attempt.outcome for attempt in attempts} == {AttemptOutcome.DEAD}
    assert all(attempt.error.endswith("is refused: loopback") for attempt in attempts)
