"""A stop signal while something hangs for good: the server ends all the same, soon after its grace."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import psutil
import pytest
from sqlalchemy.engine import make_url

from herald.campaign.v1 import campaign_pb2
from herald.chat.v1 import chat_pb2, chat_service_pb2
from tests.harness import forkserver, hello_campaign
from tests.harness.freezing import frozen
from tests.harness.postgres import FAST_AND_UNSAFE, Postgres, temporary_postgres
from tests.harness.processes import Pair, Server, running_pair, servers
from tests.harness.reconciliation import assert_everyone_has_one_outcome, lease_owners

GRACE_SECONDS = 1.0
# beyond the grace, and what a busy machine may add
LAST_RESORT_SECONDS, BUSY_SECONDS = 10.0, 15.0
SETTINGS = {
    "HERALD_GRACE_SECONDS": str(GRACE_SECONDS),
    "HERALD_LEASE_SECONDS": "1",
    # a count is under way, or waits, whenever the tables are locked
    "HERALD_SIZING_INTERVAL_SECONDS": "1",
    # so slow that there is a middle
    "HERALD_MAX_MESSAGES_PER_SECOND": "20",
}
IN_SENDER_PROCESSES = {"HERALD_SENDER_PROCESSES": "2"}
IN_ITS_OWN_PROCESS = {"HERALD_SENDER_PROCESSES": "0"}
PEOPLE = 200
_RUN_SECONDS = 120.0

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]


@dataclass(frozen=True, slots=True)
class Running:
    """Both servers, with a campaign in progress."""

    pair: Pair
    campaign: campaign_pb2.Campaign
    database_url: str
    postgres: Postgres | None = None

    @property
    def both(self) -> dict[str, Server]:
        return {"campaign": self.pair.campaign, "segment": self.pair.segment}


Hang = Callable[[Running], AbstractContextManager[None]]


@dataclass(frozen=True)
class Case:
    """`codes` are the exit codes of the server that is stopped while `hang` lasts."""

    what: str
    hang: Hang
    server: str = "campaign"
    kind: str = "sqlite"
    settings: dict[str, str] = field(default_factory=lambda: IN_SENDER_PROCESSES)
    codes: tuple[int, ...] = (0,)

    @property
    def senders(self) -> str:
        return f"{self.settings['HERALD_SENDER_PROCESSES']} sender processes"


def a_frozen_sender(running: Running) -> AbstractContextManager[None]:
    _, first, *_ = running.pair.campaign.processes()
    return frozen([first])


def all_senders_frozen(running: Running) -> AbstractContextManager[None]:
    _, *senders = running.pair.campaign.processes()
    return frozen(senders)


def a_frozen_segment_server(running: Running) -> AbstractContextManager[None]:
    return frozen(running.pair.segment.processes())


def a_frozen_postgres(running: Running) -> AbstractContextManager[None]:
    assert running.postgres
    folder = make_url(running.database_url).query["host"]
    assert isinstance(folder, str)
    postmaster = psutil.Process(int(Path(folder, "postmaster.pid").read_text().split()[0]))
    return frozen([postmaster.pid, *(child.pid for child in postmaster.children())])


@contextmanager
def a_locked_sqlite(running: Running) -> Iterator[None]:
    file = str(make_url(running.database_url).database)
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def locked_tables(running: Running) -> Iterator[None]:
    """Returns when a sender waits for them; a call waits for them as well."""
    assert running.postgres
    name = make_url(running.database_url).database or ""
    with running.postgres.locked("messages, users, segments", name):
        request = chat_service_pb2.UpsertUsersRequest(users=[chat_pb2.User(id="late")])
        call = running.pair.chat.UpsertUsers.future(request)
        while int(running.postgres.execute(_WAITING, name)) < 2:
            Event().wait(0.05)
        yield
        call.cancel()


_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""

CASES = [
    Case("a frozen sender", a_frozen_sender),
    Case("all senders frozen", all_senders_frozen),
    Case("a frozen segment server", a_frozen_segment_server),
    Case("a frozen segment server", a_frozen_segment_server, settings=IN_ITS_OWN_PROCESS),
    Case("a locked database", a_locked_sqlite),
    Case("a locked database", a_locked_sqlite, settings=IN_ITS_OWN_PROCESS),
    Case("a locked database", a_locked_sqlite, "segment"),
    Case("locked tables", locked_tables, kind="postgresql"),
    Case("locked tables", locked_tables, kind="postgresql", settings=IN_ITS_OWN_PROCESS),
    Case("locked tables", locked_tables, "segment", kind="postgresql"),
    Case("a frozen database", a_frozen_postgres, kind="postgresql", codes=(0, 1)),
    Case(
        "a frozen database",
        a_frozen_postgres,
        kind="postgresql",
        settings=IN_ITS_OWN_PROCESS,
        codes=(0, 1),
    ),
    Case("a frozen database", a_frozen_postgres, "segment", kind="postgresql", codes=(0, 1)),
]


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """To be frozen: other tests go on with theirs."""
    with temporary_postgres(FAST_AND_UNSAFE) as server:
        yield server


@contextmanager
def sending(
    database_url: str,
    logs: Path,
    settings: dict[str, str],
    postgres: Postgres | None = None,
) -> Iterator[Running]:
    with running_pair(database_url, logs, {**SETTINGS, **settings}, forkserver.run) as pair:
        people = [chat_pb2.User(id=f"{number:03}", role="user") for number in range(PEOPLE)]
        pair.chat.UpsertUsers(chat_service_pb2.UpsertUsersRequest(users=people), timeout=30)
        campaign = hello_campaign.start_for_everyone(pair)
        yield Running(pair, campaign, database_url, postgres)


@pytest.fixture
def url_of(request: pytest.FixtureRequest) -> Callable[[str], tuple[str, Postgres | None]]:
    def url(kind: str) -> tuple[str, Postgres | None]:
        if kind == "sqlite":
            return request.getfixturevalue("sqlite_url"), None
        postgres: Postgres = request.getfixturevalue("own_postgres")
        return postgres.url(postgres.fresh_database()), postgres

    return url


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.server} {case.kind} {case.what}, {case.senders}"
)
def test_a_server_ends_soon_after_its_grace_whatever_hangs(
    case: Case, url_of: Callable[[str], tuple[str, Postgres | None]], tmp_path: Path
) -> None:
    database_url, postgres = url_of(case.kind)
    with ExitStack() as stack:
        running = stack.enter_context(
            sending(database_url, tmp_path / "logs", case.settings, postgres)
        )
        server = running.both[case.server]
        processes = server.processes()
        with case.hang(running):
            began = time.monotonic()
            code = server.end()
            took = time.monotonic() - began

    assert code in case.codes, server.log_tail()
    assert took < GRACE_SECONDS + LAST_RESORT_SECONDS + BUSY_SECONDS
    assert not any(map(psutil.pid_exists, processes))


def test_the_shards_of_frozen_senders_are_sent_after_the_lease_by_others(
    database_url: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(sending(database_url, tmp_path / "logs", IN_SENDER_PROCESSES))
        pair, campaign = running.pair, running.campaign
        while not lease_owners(database_url, campaign.id):
            Event().wait(0.05)
        with all_senders_frozen(running):
            assert pair.campaign.end() == 0
        assert "is killed" in pair.campaign.log_tail()
        # the senders could not give them back
        assert lease_owners(database_url, campaign.id)

        settings = {**SETTINGS, **IN_ITS_OWN_PROCESS}
        addresses = pair.segment.address, pair.campaign.address
        _, another = servers(
            database_url, *addresses, settings=settings, logs=tmp_path, run=forkserver.run
        )
        stack.enter_context(another)
        hello_campaign.wait_until_completed(pair, campaign, _RUN_SECONDS)
    assert_everyone_has_one_outcome(database_url, campaign.id, PEOPLE)
