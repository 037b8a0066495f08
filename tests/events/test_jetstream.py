"""Every event in JetStream once and in order, against the real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext

from campaign_service.events.jetstream import SUBJECTS, JetStreamPublisher
from campaign_service.storage.holds import SqlHoldStore
from chat_store.database.engine import Database, open_database
from tests.events.dispatching import a_sent_campaign
from tests.events.reading import Consumer, a_reader
from tests.harness.nats_server import NatsServer, running_nats, running_nats_cluster

PEOPLE = [f"p{number:04}" for number in range(300)]
STREAM = "HERALD"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    folder = tmp_path / "nats"
    folder.mkdir()
    with running_nats(folder) as server:
        yield server


def a_publisher(database: Database, *servers: NatsServer) -> JetStreamPublisher:
    urls = ",".join(server.url for server in servers)
    return JetStreamPublisher(a_reader(database), urls, STREAM)


@asynccontextmanager
async def jetstream(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(server.url, allow_reconnect=False)
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def stored(server: NatsServer) -> list[tuple[str, str]]:
    """The id and the subject of each message, in order."""
    async with jetstream(server) as context:
        info = await context.stream_info(STREAM)
        found = []
        for sequence in range(1, info.state.last_seq + 1):
            message = await context.get_msg(STREAM, seq=sequence)
            found.append(((message.headers or {})["Nats-Msg-Id"], message.subject or ""))
    return found


async def logged_ids(database: Database) -> list[str]:
    return [event.id for event in await Consumer(database, at_once=1_000).drain()]


async def publish_all(publisher: JetStreamPublisher) -> None:
    while await publisher.run_once():
        pass


async def test_every_event_is_published_once_in_order_under_its_id(
    database: Database, server: NatsServer
) -> None:
    publisher = a_publisher(database, server)
    for id_ in ("spring", "a.b c"):
        await a_sent_campaign(database, id_, PEOPLE[:60])

    await publish_all(publisher)
    await publisher.close()

    found = await stored(server)
    assert [id_ for id_, _ in found] == await logged_ids(database)
    subjects = {subject for _, subject in found}
    assert "herald.events.message.new.spring" in subjects
    assert "herald.events.campaign.started.=YS5iIGM" in subjects


async def test_a_held_database_publishes_nothing_until_it_is_released(
    database: Database, server: NatsServer
) -> None:
    publisher = a_publisher(database, server)
    await a_sent_campaign(database, "spring", PEOPLE[:3])
    holds = SqlHoldStore(database)
    await holds.begin(start_held=True)
    await publish_all(publisher)
    assert await stored(server) == []

    await holds.release()
    await publish_all(publisher)
    await publisher.close()

    assert [id_ for id_, _ in await stored(server)] == await logged_ids(database)


@pytest.mark.nightly_on("postgresql")
async def test_a_publisher_that_was_dead_for_longer_than_the_duplicate_window_repeats_nothing(
    database: Database, server: NatsServer
) -> None:
    async with jetstream(server) as context:
        await context.add_stream(name=STREAM, subjects=["herald.events.>"], duplicate_window=0.1)
    for number in range(4):
        await a_sent_campaign(database, f"c{number}", PEOPLE[:20])
        publisher = a_publisher(database, server)
        await publisher.run_once()
        await publisher.close()
        # the server's own clock: its window is over
        await asyncio.sleep(0.2)
    publisher = a_publisher(database, server)
    await publish_all(publisher)
    await publisher.close()

    assert [id_ for id_, _ in await stored(server)] == await logged_ids(database)


@pytest.mark.nightly
async def test_two_publishers_at_once_publish_nothing_twice(
    database: Database, server: NatsServer
) -> None:
    for number in range(3):
        await a_sent_campaign(database, f"c{number}", PEOPLE)
    stop = asyncio.Event()
    publishers = [a_publisher(database, server) for _ in range(2)]
    expected = await logged_ids(database)

    async def stop_at_the_end() -> None:
        while True:
            await asyncio.sleep(0.05)
            async with jetstream(server) as context:
                try:
                    info = await context.stream_info(STREAM)
                except nats.js.errors.NotFoundError:
                    continue
                if info.state.last_seq >= len(expected):
                    stop.set()
                    return

    await asyncio.gather(*(publisher.run(stop) for publisher in publishers), stop_at_the_end())

    assert [id_ for id_, _ in await stored(server)] == expected


@pytest.mark.nightly
async def test_a_server_that_is_killed_again_and_again_misses_nothing(
    database: Database, server: NatsServer
) -> None:
    stop = asyncio.Event()
    publisher = a_publisher(database, server)
    running = asyncio.create_task(publisher.run(stop))
    for number in range(4):
        await a_sent_campaign(database, f"c{number}", PEOPLE[:100])
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
    expected = await logged_ids(database)
    while not running.done():
        found = await asyncio.gather(stored(server), return_exceptions=True)
        if isinstance(found[0], list) and len(found[0]) >= len(expected):
            break
        await asyncio.sleep(0.1)
    stop.set()
    await running

    assert [id_ for id_, _ in await stored(server)] == expected


@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_a_cluster_whose_leader_is_killed_misses_nothing_and_has_nothing_twice(
    sqlite_url: str, tmp_path: Path
) -> None:
    database = open_database(sqlite_url)
    with running_nats_cluster(tmp_path) as nodes:
        await create_replicated(nodes)
        stop = asyncio.Event()
        running = asyncio.create_task(a_publisher(database, *nodes.values()).run(stop))
        await a_sent_campaign(database, "c0", PEOPLE)
        await reached(nodes, 1)
        leader = await leader_of(nodes)
        await asyncio.to_thread(nodes[leader].kill)
        await a_sent_campaign(database, "c1", PEOPLE)
        expected = await logged_ids(database)
        await reached(nodes, len(expected))
        await asyncio.to_thread(nodes[leader].start)
        stop.set()
        await running

        for node in nodes.values():
            assert [id_ for id_, _ in await stored(node)] == expected
    await database.close()


async def create_replicated(nodes: Mapping[str, NatsServer]) -> None:
    """The stream, as an operator makes it, as soon as the cluster has a leader."""
    (first, *_) = nodes.values()
    async with jetstream(first) as context:
        while True:
            try:
                await context.add_stream(name=STREAM, subjects=[SUBJECTS], num_replicas=len(nodes))
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.1)
            else:
                return


async def state_of(nodes: Mapping[str, NatsServer]) -> tuple[str, int]:
    """The stream's leader and its last sequence, by any node that can tell."""
    while True:
        # connecting to one that is dead takes minutes
        for node in (node for node in nodes.values() if node.is_running):
            with suppress(nats.errors.Error, OSError, TimeoutError):
                async with jetstream(node) as context:
                    info = await context.stream_info(STREAM)
                    if info.cluster and info.cluster.leader:
                        return info.cluster.leader, info.state.last_seq
        await asyncio.sleep(0.05)


async def leader_of(nodes: Mapping[str, NatsServer]) -> str:
    return (await state_of(nodes))[0]


async def reached(nodes: Mapping[str, NatsServer], events: int) -> None:
    """Returns when the stream has so many."""
    while (await state_of(nodes))[1] < events:  # noqa: ASYNC110 - of other processes
        await asyncio.sleep(0.02)
