"""`python -m campaign_service send`: senders without a server of their own share the work."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from herald.campaign.v1 import campaign_pb2
from herald.chat.v1 import chat_pb2, chat_service_pb2
from tests.harness import forkserver, hello_campaign
from tests.harness.processes import Pair, running_pair
from tests.harness.reconciliation import (
    assert_everyone_has_one_outcome,
    count_messages,
    lease_owners,
)

PEOPLE = 100
# so slow that there is a middle
SETTINGS = {"HERALD_LEASE_SECONDS": "1", "HERALD_MAX_MESSAGES_PER_SECOND": "20"}
_RUN_SECONDS = 120.0


@contextmanager
def started(pair: Pair, database_url: str, log: Path) -> Iterator[forkserver.ForkedProcess]:
    environment = {
        **SETTINGS,
        "HERALD_DATABASE_URL": database_url,
        "HERALD_SEGMENT_TARGET": pair.segment.address,
    }
    process = forkserver.ForkedProcess(
        forkserver.start("campaign_service", environment, log, "send")
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def left_alone(pair: Pair) -> campaign_pb2.Campaign:
    """A campaign in progress, whose server is killed."""
    people = [chat_pb2.User(id=f"{number:03}", role="user") for number in range(PEOPLE)]
    pair.chat.UpsertUsers(chat_service_pb2.UpsertUsersRequest(users=people), timeout=30)
    campaign = hello_campaign.start_for_everyone(pair)
    pair.campaign.kill()
    return campaign


def until_it_sends(
    process: forkserver.ForkedProcess, database_url: str, campaign: campaign_pb2.Campaign
) -> None:
    """Returns when it has a lease and has written a page; the test's own time-out is its bound."""
    sent = count_messages(database_url, campaign.id)
    while not (
        has_a_lease(process, database_url, campaign)
        and count_messages(database_url, campaign.id) > sent
    ):
        assert process.poll() is None
        Event().wait(0.02)


def has_a_lease(
    process: forkserver.ForkedProcess, database_url: str, campaign: campaign_pb2.Campaign
) -> bool:
    """The killed server's senders may have some, too, which nobody has taken over yet."""
    owners = lease_owners(database_url, campaign.id)
    return any(owner.endswith(f":{process.pid}") for owner in owners)


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_senders_alone_go_on_with_a_campaign_and_give_it_back_on_a_stop_signal(
    database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    with running_pair(database_url, tmp_path / "logs", SETTINGS, forkserver.run) as pair:
        campaign = left_alone(pair)
        with started(pair, database_url, tmp_path / "logs" / "send.log") as process:
            until_it_sends(process, database_url, campaign)

            process.send_signal(number)

            assert process.wait(60) == 0
            assert not has_a_lease(process, database_url, campaign)
            assert count_messages(database_url, campaign.id) < PEOPLE
        pair.campaign.start()
        hello_campaign.wait_until_completed(pair, campaign, _RUN_SECONDS)
    assert_everyone_has_one_outcome(database_url, campaign.id, PEOPLE)


@pytest.mark.nightly
def test_senders_alone_complete_a_campaign_without_any_campaign_server(
    database_url: str, tmp_path: Path
) -> None:
    with running_pair(database_url, tmp_path / "logs", SETTINGS, forkserver.run) as pair:
        campaign = left_alone(pair)
        with started(pair, database_url, tmp_path / "logs" / "send.log") as process:
            until_it_sends(process, database_url, campaign)
            while lease_owners(database_url, campaign.id):
                Event().wait(0.05)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        # it was completed before there was a server again
        assert_everyone_has_one_outcome(database_url, campaign.id, PEOPLE)
        pair.campaign.start()


def test_senders_alone_say_in_one_line_why_they_cannot_start(tmp_path: Path) -> None:
    log = tmp_path / "send.log"
    environment = {"HERALD_DATABASE_URL": f"sqlite:///{tmp_path}", "HERALD_LOG_FORMAT": "json"}
    process = forkserver.ForkedProcess(
        forkserver.start("campaign_service", environment, log, "send")
    )

    assert process.wait(60) == 1
    assert "can't start" in log.read_text().splitlines()[-1]
    assert "Traceback" not in log.read_text()
