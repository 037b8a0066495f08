"""The processes that send for a server belong to it: none of them is alone for long."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests.harness import forkserver
from tests.harness.processes import Server, free_address, servers

# no segment server: nothing is sent
_NOBODY = "127.0.0.1:1"


def a_server(database_url: str, folder: Path, settings: Mapping[str, str]) -> Server:
    _, campaign = servers(
        database_url, _NOBODY, free_address(), settings=settings, logs=folder, run=forkserver.run
    )
    return campaign


@pytest.fixture
def server(sqlite_url: str, tmp_path: Path) -> Iterator[Server]:
    campaign = a_server(sqlite_url, tmp_path, {"HERALD_SENDER_PROCESSES": "2"})
    campaign.start()
    yield campaign
    campaign.kill()


@pytest.mark.nightly
async def test_a_server_sends_in_commands_that_it_has_started(server: Server) -> None:
    serving, *senders = server.processes()

    assert len(senders) == 2
    await sending(senders)
    for number, pid in enumerate(senders):
        command = psutil.Process(pid).cmdline()
        options = ["--ordered", "--number", str(number)]
        assert command[1:] == ["-P", "-m", "campaign_service", "send", *options]
        assert os.getsid(pid) == os.getsid(serving)
        assert set(nices_of_threads(pid)) == {own_niceness()}


@pytest.mark.nightly
async def test_senders_that_are_told_to_stand_back_do_so_but_for_the_thread_that_writes_on_sqlite(
    sqlite_url: str, tmp_path: Path
) -> None:
    settings = {"HERALD_SENDER_PROCESSES": "1", "HERALD_SENDER_NICENESS": "7"}
    with a_server(sqlite_url, tmp_path, settings) as server:
        _, sender = server.processes()
        while os.getpriority(os.PRIO_PROCESS, sender) == own_niceness():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)

        assert os.getpriority(os.PRIO_PROCESS, sender) == own_niceness() + 7
        nices = nices_of_threads(sender)
        assert nices.count(own_niceness()) == 1, nices


@pytest.mark.nightly
async def test_a_server_told_to_send_in_no_other_process_is_one(
    sqlite_url: str, tmp_path: Path
) -> None:
    with a_server(sqlite_url, tmp_path, {"HERALD_SENDER_PROCESSES": "0"}) as server:
        assert len(server.processes()) == 1


@pytest.mark.nightly
async def test_a_sender_process_that_is_killed_is_replaced_each_time(server: Server) -> None:
    _, *senders = server.processes()
    for _ in range(2):
        for pid in senders:
            os.kill(pid, signal.SIGKILL)
        await gone(senders)
        senders = await replacements(server, senders)
        await sending(senders)

    assert "sender 0 has ended with -9" in server.log_tail()
    server.stop()
    await gone(senders)


@pytest.mark.nightly
async def test_a_dispatcher_that_is_killed_is_replaced_and_takes_no_call_away(
    sqlite_url: str, tmp_path: Path
) -> None:
    with a_server(sqlite_url, tmp_path, {"HERALD_DISPATCHER_PROCESSES": "1"}) as server:
        await logged(server, '"dispatching"', times=1)
        os.kill(server.processes()[1], signal.SIGKILL)
        await logged(server, '"dispatching"', times=2)

        assert "dispatcher 0 has ended with -9" in server.log_tail()
        assert "not serving" not in server.log_tail()


def test_a_server_that_crashes_in_foreign_code_leaves_its_stacks_in_the_log(
    sqlite_url: str, tmp_path: Path
) -> None:
    server = a_server(sqlite_url, tmp_path, {})
    server.start()
    server.send_signal(signal.SIGSEGV)

    assert server.wait() == -signal.SIGSEGV
    log = (tmp_path / "campaign.log").read_text()
    assert "Fatal Python error: Segmentation fault" in log
    # A statement runs in a greenlet, and then the stack of its thread doesn't reach down to the
    # event loop: no file can be named here.
    assert re.search(r"^Current thread .*\n  File ", log, re.MULTILINE)


async def test_a_server_that_is_killed_takes_its_sender_processes_along(server: Server) -> None:
    _, *senders = server.processes()
    await sending(senders)

    server.kill()

    await gone(senders)


@pytest.mark.nightly
async def test_a_server_that_is_killed_as_it_starts_leaves_no_sender_process(
    server: Server,
) -> None:
    _, *senders = server.processes()

    server.kill()

    await gone(senders)


@pytest.mark.nightly
async def test_a_frozen_sender_process_does_not_keep_the_others_of_a_killed_server(
    server: Server,
) -> None:
    _, first, second = server.processes()
    await sending([first, second])

    os.kill(second, signal.SIGSTOP)
    server.kill()

    try:
        await gone([first])
    finally:
        os.kill(second, signal.SIGKILL)


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("begun", [True, False], ids=["senders that send", "senders that start"])
async def test_a_stop_signal_for_all_of_them_is_a_stop_signal_for_the_server(
    server: Server,
    begun: bool,  # noqa: FBT001 - a parameter of the test
    number: signal.Signals,
) -> None:
    _, *senders = processes = server.processes()
    if begun:
        await sending(senders)

    for pid in processes:
        os.kill(pid, number)

    assert await asyncio.to_thread(server.wait) == 0, server.log_tail()
    await gone(senders)


async def logged(server: Server, text: str, times: int) -> None:
    """The test's own time-out is its bound."""
    while server.log_tail().count(text) < times:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.05)


async def sending(pids: list[int]) -> None:
    """Returns when all of them have the database open; the test's own time-out is its bound."""
    while not all(map(has_the_database_open, pids)):  # noqa: ASYNC110 - no event tells of another process
        await asyncio.sleep(0.01)


def has_the_database_open(pid: int) -> bool:
    return any(Path(file.path).name == "herald.db" for file in psutil.Process(pid).open_files())


def own_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def nices_of_threads(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [os.getpriority(os.PRIO_PROCESS, int(thread.name)) for thread in threads]


async def replacements(server: Server, replaced: list[int]) -> list[int]:
    """Returns when there are as many new ones; the test's own time-out is its bound."""
    while True:
        _, *senders = server.processes()
        if len(senders) == len(replaced) and not set(senders) & set(replaced):
            return senders
        await asyncio.sleep(0.01)


async def gone(pids: list[int]) -> None:
    """Returns when there is none of them any more; the test's own time-out is its bound."""
    while any(map(is_there, pids)):  # noqa: ASYNC110 - no event tells the end of another's child
        await asyncio.sleep(0.01)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
