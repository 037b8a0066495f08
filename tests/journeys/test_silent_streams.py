"""Consumers of StreamEvents that stop reading cost the server one page each, and nobody else."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from herald.chat.v1 import chat_pb2
from herald.chat.v1 import chat_service_pb2 as chat_pb
from herald.event.v1 import event_service_pb2 as pb
from herald.event.v1.event_service_pb2_grpc import EventServiceStub
from tests.harness import forkserver
from tests.harness.processes import Pair, running_pair
from tests.journeys.test_events import CALL_SECONDS, add_users, in_thread, start_campaign

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]

MIB = 2**20
CONSUMERS = 6
GUESTS = [f"guest-{number:04}" for number in range(2_500)]
# of each message: a page of 200 events has 100 of them, and all of them are 35 MiB
TEXT_BYTES = 14_000
MOST_BYTES = 120 * MIB
# a client that does not read takes 64 KiB then, and not the megabytes of a fast connection
SMALL_WINDOW = [("grpc.http2.bdp_probe", 0)]
SETTINGS = {"HERALD_LEASE_SECONDS": "1", "HERALD_SENDER_PROCESSES": "0"}


async def test_consumers_that_stop_reading_cost_bounded_memory(
    sqlite_url: str, tmp_path: Path
) -> None:
    with running_pair(sqlite_url, tmp_path / "logs", SETTINGS, forkserver.run) as pair:
        await in_thread(add_users, pair, ["acme"])
        await in_thread(add_guests, pair)
        await in_thread(start_campaign, pair, GUESTS)
        async with (
            grpc.aio.insecure_channel(pair.campaign.address) as reading,
            grpc.aio.insecure_channel(pair.campaign.address, SMALL_WINDOW) as not_reading,
        ):
            # what one stream takes to be read to its end, the server keeps for the next one
            size, last = await read_to_the_end(stream(reading))
            before = pair.campaign.memory()
            silent = [stream(not_reading) for _ in range(CONSUMERS)]
            first = [await call.read() for call in silent]
            # they have had the time that the whole log takes twice
            for _ in range(2):
                await read_to_the_end(stream(reading))
            grown = pair.campaign.memory() - before
            # and go on where they were, without a gap
            last_of_silent = (await read_to_the_end(silent[0]))[1]
            for call in silent:
                call.cancel()

    assert all(response.events for response in first)
    assert size * CONSUMERS > 1.5 * MOST_BYTES
    assert grown < MOST_BYTES, f"{grown / MIB:.0f} MiB"
    assert last_of_silent == last


def add_guests(pair: Pair) -> None:
    """Their names make the messages long."""
    name = "x" * TEXT_BYTES
    for begin in range(0, len(GUESTS), 100):
        users = [chat_pb2.User(id=id_, name=name) for id_ in GUESTS[begin : begin + 100]]
        pair.chat.UpsertUsers(chat_pb.UpsertUsersRequest(users=users), timeout=CALL_SECONDS)


def stream(channel: grpc.aio.Channel) -> Any:
    events: Any = EventServiceStub(channel)
    return events.StreamEvents(pb.StreamEventsRequest())


async def read_to_the_end(call: Any) -> tuple[int, str]:
    """The bytes up to the end of the campaign, and the id of the last event."""
    size = 0
    while True:
        response = await call.read()
        size += response.ByteSize()
        for event in response.events:
            if event.type == "campaign.completed":
                return size, event.id
