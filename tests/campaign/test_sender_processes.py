"""The processes that send belong to their server: none of them is alone for long."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness import forkserver
from tests.harness.processes import Server, free_address, servers

# no segment server: nothing is sent
_NOBODY = "127.0.0.1:1"


@pytest.fixture
def server(sqlite_url: str, tmp_path: Path) -> Iterator[Server]:
    _, campaign = servers(sqlite_url, _NOBODY, free_address(), logs=tmp_path, run=forkserver.run)
    campaign.start()
    yield campaign
    campaign.kill()


async def test_a_server_sends_in_processes_of_their_own(server: Server) -> None:
    assert len(server.processes()) == 1 + 2


async def test_its_senders_let_all_others_go_first(server: Server) -> None:
    _, *senders = server.processes()

    await stand_back(senders)


async def test_the_thread_that_writes_on_sqlite_does_not_stand_back_with_its_sender(
    server: Server,
) -> None:
    _, *senders = server.processes()

    await stand_back(senders)
    for sender in senders:
        nices = nices_of_threads(sender)
        assert nices.count(os.getpriority(os.PRIO_PROCESS, 0)) == 1, nices


async def test_a_server_told_to_send_in_no_other_process_is_one(
    sqlite_url: str, tmp_path: Path
) -> None:
    settings = {"HERALD_SENDER_PROCESSES": "0"}
    address = free_address()
    _, campaign = servers(
        sqlite_url, _NOBODY, address, settings=settings, logs=tmp_path, run=forkserver.run
    )
    with campaign:
        assert len(campaign.processes()) == 1


async def test_a_sender_process_that_is_killed_is_replaced_each_time(server: Server) -> None:
    serving, *senders = server.processes()
    for _ in range(2):
        for pid in senders:
            os.kill(pid, signal.SIGKILL)
        await gone(senders)
        senders = await replacements(serving, 2)
        await stand_back(senders)

    assert "sender 0 has ended with -9" in server.log_tail()
    server.stop()
    await gone(senders)


async def test_a_server_that_is_killed_takes_its_sender_processes_along(server: Server) -> None:
    _, *senders = server.processes()

    server.kill()

    await gone(senders)


async def test_a_frozen_sender_process_does_not_keep_the_others_of_a_killed_server(
    server: Server,
) -> None:
    _, first, second = server.processes()

    os.kill(second, signal.SIGSTOP)
    server.kill()

    try:
        await gone([first])
    finally:
        os.kill(second, signal.SIGKILL)


async def test_a_stop_signal_for_all_of_them_is_a_stop_signal_for_the_server(
    server: Server,
) -> None:
    _, *senders = processes = server.processes()

    for pid in processes:
        os.kill(pid, signal.SIGTERM)

    assert await asyncio.to_thread(server.wait) == 0
    await gone(senders)


async def stand_back(pids: list[int]) -> None:
    """Returns when all of them do, as each does when it begins; the test's time-out is its bound."""
    while not all(map(stands_back, pids)):  # noqa: ASYNC110 - no event tells another's niceness
        await asyncio.sleep(0.01)


def stands_back(pid: int) -> bool:
    """Among all processes of the machine, also where a session's share comes first."""
    shared_by_session = Path(f"/proc/{pid}/autogroup")
    nice = os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 15
    alone = os.getsid(pid) == pid
    known = not shared_by_session.exists() or shared_by_session.read_text().endswith(" nice 15\n")
    return nice and alone and known


def nices_of_threads(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [os.getpriority(os.PRIO_PROCESS, int(thread.name)) for thread in threads]


async def replacements(serving: int, number: int) -> list[int]:
    """Returns when so many new processes send; the test's own time-out is its bound."""
    while len(senders := senders_of(serving)) < number:  # noqa: ASYNC110 - no event tells of another's child
        await asyncio.sleep(0.01)
    return senders


def senders_of(serving: int) -> list[int]:
    """Without the process by which Python's multiprocessing keeps track of all others."""
    children = psutil.Process(serving).children()
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


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
