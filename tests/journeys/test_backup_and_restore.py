"""A database is put back: nothing of it is sent again before an operator has said so."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status
from sqlalchemy import text
from sqlalchemy.engine import make_url

from chat_store.database.engine import open_database
from herald.campaign.v1 import campaign_pb2, campaign_service_pb2
from herald.chat.v1 import chat_pb2, chat_service_pb2
from tests.harness import forkserver, hello_campaign
from tests.harness.event_loops import run_in_new_loop
from tests.harness.postgres import FAST_AND_UNSAFE, Postgres, temporary_postgres
from tests.harness.processes import Pair, Server, free_address, running_pair, servers
from tests.harness.reconciliation import (
    assert_consistent,
    assert_everyone_has_one_outcome,
    count_messages,
    recount,
)
from tests.journeys.test_outages import NOT_SERVING, SERVING, health, wait_for_health

IN_PROGRESS = campaign_pb2.CAMPAIGN_STATUS_IN_PROGRESS
SCHEDULED = campaign_pb2.CAMPAIGN_STATUS_SCHEDULED
STOPPED = campaign_pb2.CAMPAIGN_STATUS_STOPPED
COMPLETED = campaign_pb2.CAMPAIGN_STATUS_COMPLETED
CAMPAIGN_SERVICE = "herald.campaign.v1.CampaignService"
EVENT_SERVICE = "herald.event.v1.EventService"

PEOPLE = 60
# beside the calls: processes that stand back would hardly send while other tests have the cores
SETTINGS = {"HERALD_SENDER_PROCESSES": "0"}
SECONDS = 180.0

_PAGE = Path(__file__).parents[2] / "deploy" / "README.md"
_SECTION = re.compile(r"^## Backup and restore\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_PART = re.compile(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Operator:
    """Somebody with a shell in Herald's folder, who does what deploy/README.md says."""

    folder: Path
    database_url: str
    path: str = ""

    def backs_up(self) -> None:
        self._do(_commands(self._database)[0])

    def sees_the_backup_behind(self) -> None:
        """Returns when the file beside an SQLite database has counted on; the test ends it."""
        if self._database == "PostgreSQL":
            return
        with closing(sqlite3.connect(self.folder / "herald.backup.db")) as backup:
            ((then,),) = backup.execute("SELECT generation FROM restore_guard")
        file = self.folder / "data" / "herald.db.generation"
        while json.loads(file.read_text())["number"] <= then:
            Event().wait(0.05)

    def restores(self) -> None:
        self._do(_commands(self._database)[1])

    def decides(self, decision: str) -> str:
        """To `resume` or to `stop`; returns what that printed."""
        (both,) = _commands("After a restore")
        (command,) = [line for line in both.splitlines() if line.endswith(f"--{decision}")]
        return self._do(command)

    @property
    def _database(self) -> str:
        return "SQLite" if self.database_url.startswith("sqlite") else "PostgreSQL"

    def _do(self, commands: str) -> str:
        url = make_url(self.database_url)
        plain = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)
        done = subprocess.run(
            ["/bin/sh", "-euc", commands],
            cwd=self.folder,
            env={
                **os.environ,
                "HERALD_DATABASE_URL": plain,
                "PATH": f"{self.path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _commands(part: str) -> list[str]:
    """The blocks of commands in a part of the section."""
    section = _SECTION.search(_PAGE.read_text())
    assert section, "the page has no section called Backup and restore"
    return _BLOCK.findall(dict(_PART.findall(section[1]))[part])


@pytest.fixture(params=["sqlite", "postgresql"])
def operator(
    request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path
) -> Iterator[Operator]:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    if request.param == "sqlite":
        (tmp_path / "data").mkdir()
        file = shutil.copy(sqlite_template, tmp_path / "data" / "herald.db")
        yield Operator(tmp_path, f"sqlite+aiosqlite:///{file}")
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.fresh_database()
    yield Operator(tmp_path, postgres.url(name), str(postgres.programs))
    postgres.drop_database(name)


@contextmanager
def running(database_url: str, folder: Path) -> Iterator[Pair]:
    with running_pair(database_url, folder / "logs", SETTINGS, forkserver.run) as pair:
        yield pair


def _create(pair: Pair, id_: str, segment_id: str, rate: int = 0) -> campaign_pb2.Campaign:
    campaign = campaign_pb2.Campaign(
        id=id_,
        sender_id=hello_campaign.SENDER.id,
        segment_ids=[segment_id],
        message_template=campaign_pb2.MessageTemplate(text=hello_campaign.TEXT),
        create_channels=True,
        channel_template=campaign_pb2.ChannelTemplate(
            type=hello_campaign.CHANNEL_TYPE, id=hello_campaign.CHANNEL_ID
        ),
        max_messages_per_second=rate,
    )
    request = campaign_service_pb2.CreateCampaignRequest(campaign=campaign)
    return pair.campaigns.CreateCampaign(request, timeout=SECONDS, wait_for_ready=True).campaign


def one_in_progress_and_one_scheduled(
    pair: Pair,
) -> tuple[campaign_pb2.Campaign, campaign_pb2.Campaign]:
    people = [chat_pb2.User(id=f"user-{number:03}", role="user") for number in range(PEOPLE)]
    pair.chat.UpsertUsers(chat_service_pb2.UpsertUsersRequest(users=people), timeout=SECONDS)
    hello_campaign.upsert_sender(pair)
    segment = hello_campaign.create_segment(pair, hello_campaign.EVERYONE_BUT_THE_SENDER)
    spring = _create(pair, "spring", segment.id, rate=10)
    autumn = _create(pair, "autumn", segment.id)
    later = campaign_service_pb2.StartCampaignRequest(id="autumn")
    later.scheduled_for.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    pair.campaigns.StartCampaign(later, timeout=SECONDS)
    hello_campaign.start(pair, spring)
    _until_more_are_sent(pair, spring, 0)
    return spring, autumn


def _until_more_are_sent(pair: Pair, campaign: campaign_pb2.Campaign, sent: int) -> None:
    hello_campaign.wait_until(
        pair, campaign, lambda state: state.stats.messages_sent > sent, SECONDS
    )


def _hour_has_passed(database_url: str) -> None:
    """The scheduled campaign is due, as if the backup were older."""

    async def move() -> None:
        database = open_database(database_url)
        past = "1" if database.dialect == "sqlite" else "now() - interval '1 day'"
        async with database.transaction() as connection:
            await connection.execute(
                text(f"UPDATE campaigns SET scheduled_for = {past} WHERE id = 'autumn'")
            )
        await database.close()

    run_in_new_loop(move())


def _healths(server: Server) -> dict[str, int]:
    with health(server) as stub:
        return {
            name: stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS).status
            for name in ("", CAMPAIGN_SERVICE, EVENT_SERVICE)
        }


def _reason(error: Any) -> tuple[grpc.StatusCode, str]:
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error.code(), info.reason


def assert_held(pair: Pair, database_url: str, messages: int) -> None:
    """And readable, and deaf to StartCampaign."""
    server = pair.campaign
    assert _healths(server) == {
        "": NOT_SERVING,
        CAMPAIGN_SERVICE: NOT_SERVING,
        EVENT_SERVICE: SERVING,
    }
    assert "restored --resume | --stop" in server.log_tail()
    for id_, status in (("spring", IN_PROGRESS), ("autumn", SCHEDULED)):
        campaign = hello_campaign.get(pair, campaign_pb2.Campaign(id=id_))
        assert campaign.status == status
        assert campaign.status_reason.startswith("held, because")
        with pytest.raises(grpc.RpcError) as refused:
            hello_campaign.start(pair, campaign)
        assert _reason(refused.value) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "ERROR_REASON_DATABASE_HELD",
        )
    assert count_messages(database_url, "spring") == messages
    assert count_messages(database_url, "autumn") == 0


@pytest.mark.nightly
@pytest.mark.parametrize(("decision", "ending"), [("resume", "a stop"), ("stop", "a crash")])
def test_a_backup_that_is_restored_as_the_readme_says_sends_nothing_until_the_operator_decides(
    operator: Operator, decision: str, ending: str
) -> None:
    url = operator.database_url
    with running(url, operator.folder) as pair:
        spring, autumn = one_in_progress_and_one_scheduled(pair)
        operator.backs_up()
        sent = count_messages(url, "spring")
        # the backup may have been made some pages before
        _until_more_are_sent(pair, spring, sent)
        if ending == "a crash":
            operator.sees_the_backup_behind()
            pair.campaign.kill()
        else:
            pair.campaign.stop()
        pair.segment.stop()
        operator.restores()
        _hour_has_passed(url)
        in_the_backup = count_messages(url, "spring")
        assert in_the_backup < recount(url, "spring").targets_total

        pair.segment.start()
        pair.campaign.start(held=True)
        assert_held(pair, url, in_the_backup)
        pair.campaign.stop()
        pair.campaign.start(held=True)
        assert_held(pair, url, in_the_backup)
        output = operator.decides(decision)
        wait_for_health(pair.campaign, SERVING, SECONDS)

        assert re.search(r"autumn \(scheduled\)\n\s+spring \(in progress\)", output)
        if decision == "stop":
            for campaign in (spring, autumn):
                stopped = hello_campaign.get(pair, campaign)
                assert stopped.status == STOPPED
                assert stopped.status_reason == (
                    "stopped by an operator, because the database was restored from a backup"
                )
                assert_consistent(recount(url, campaign.id))
            assert count_messages(url, "spring") == in_the_backup
            for campaign in (spring, autumn):
                hello_campaign.start(pair, campaign)
        for campaign in (spring, autumn):
            completed = hello_campaign.wait_until_completed(pair, campaign, SECONDS)
            assert completed.status_reason == ""
            assert_everyone_has_one_outcome(url, campaign.id, PEOPLE)
        pair.campaign.restart()


@pytest.mark.nightly
def test_a_dump_that_is_restored_into_another_database_of_the_cluster_is_held_there_only(
    postgres: Postgres, tmp_path: Path
) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    home, away = postgres.fresh_database(), "herald_away"
    postgres.execute(f"CREATE DATABASE {away}")
    here = Operator(tmp_path, postgres.url(home), str(postgres.programs))
    there = Operator(tmp_path, postgres.url(away), str(postgres.programs))
    with running(here.database_url, tmp_path / "here") as pair:
        spring, _ = one_in_progress_and_one_scheduled(pair)
        here.backs_up()
        there.restores()
        _hour_has_passed(there.database_url)
        sent = count_messages(there.database_url, "spring")

        # before any server has seen it
        with running_held(there.database_url, tmp_path / "there", pair.segment) as copy:
            assert "held" in copy.log_tail()
            assert count_messages(there.database_url, "spring") == sent
            assert "resumed: 2 campaigns" in there.decides("resume")
            wait_for_health(copy, SERVING, SECONDS)
        hello_campaign.wait_until_completed(pair, spring, SECONDS)

    assert_everyone_has_one_outcome(here.database_url, "spring", PEOPLE)
    postgres.drop_database(away)
    postgres.drop_database(home)


@contextmanager
def running_held(
    database_url: str, folder: Path, segment: Server, settings: Mapping[str, str] = SETTINGS
) -> Iterator[Server]:
    """Another campaign server."""
    folder.mkdir()
    _, campaign = servers(
        database_url,
        segment.address,
        free_address(),
        settings=settings,
        logs=folder,
        run=forkserver.run,
    )
    campaign.start(held=True)
    try:
        yield campaign
    finally:
        campaign.stop()


@pytest.mark.nightly
def test_a_database_that_is_restored_under_running_servers_is_held_before_they_send_any_of_it(
    postgres: Postgres, tmp_path: Path
) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    name = postgres.fresh_database()
    operator = Operator(tmp_path, postgres.url(name), str(postgres.programs))
    with running(operator.database_url, tmp_path) as pair:
        spring, _ = one_in_progress_and_one_scheduled(pair)
        operator.backs_up()
        hello_campaign.wait_until_completed(pair, spring, SECONDS)
        operator.restores()
        sent = count_messages(operator.database_url, "spring")
        wait_for_health(pair.campaign, NOT_SERVING, SECONDS)

        assert sent < PEOPLE
        assert_held(pair, operator.database_url, sent)
        operator.decides("resume")
        hello_campaign.wait_until_completed(pair, spring, SECONDS)
        assert_everyone_has_one_outcome(operator.database_url, "spring", PEOPLE)
    postgres.drop_database(name)


@pytest.mark.nightly
def test_a_replica_that_takes_over_goes_on_by_itself(tmp_path: Path) -> None:
    replicas = Path(tempfile.mkdtemp(prefix="herald-replica-"))
    try:
        with temporary_postgres(FAST_AND_UNSAFE) as primary:
            name = primary.fresh_database()
            primary.replicate_to(replicas)
            with Postgres(replicas, FAST_AND_UNSAFE) as replica:
                with running(primary.url(name), tmp_path / "before") as pair:
                    spring, _ = one_in_progress_and_one_scheduled(pair)
                # a primary that stops waits for what its replicas have not got yet
                primary.stop()
                replica.execute("SELECT pg_promote()")
                left = recount(replica.url(name), "spring")
                with running(replica.url(name), tmp_path / "after") as pair:
                    hello_campaign.wait_until_completed(pair, spring, SECONDS)
                    assert set(_healths(pair.campaign).values()) == {SERVING}
                assert 0 < left.messages < PEOPLE
                assert_everyone_has_one_outcome(replica.url(name), "spring", PEOPLE)
    finally:
        shutil.rmtree(replicas)


@pytest.mark.nightly
def test_a_server_that_is_started_held_sends_nothing_until_the_operator_decides(
    operator: Operator,
) -> None:
    url = operator.database_url
    with running(url, operator.folder) as pair:
        spring, _ = one_in_progress_and_one_scheduled(pair)
        pair.campaign.stop()
        sent = count_messages(url, "spring")
        _hour_has_passed(url)
        held = {**SETTINGS, "HERALD_START_HELD": "true"}
        with running_held(url, operator.folder / "held", pair.segment, held):
            # it is the database that is held, and so is every other server
            pair.campaign.start(held=True)
            assert_held(pair, url, sent)
            output = operator.decides("resume")
            wait_for_health(pair.campaign, SERVING, SECONDS)
            hello_campaign.wait_until_completed(pair, spring, SECONDS)

        assert "a start with HERALD_START_HELD=true holds it again" in output
        assert_everyone_has_one_outcome(url, "spring", PEOPLE)
        with running_held(url, operator.folder / "again", pair.segment, held):
            wait_for_health(pair.campaign, NOT_SERVING, SECONDS)
