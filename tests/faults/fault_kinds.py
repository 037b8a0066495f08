"""What happens to a run while it runs, by name. Each counts how often it really happened."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial

from tests.faults.cluster import Cluster
from tests.faults.refusals import lock_sqlite, refuse_writes
from tests.faults.scenario import CAMPAIGN_ID
from tests.faults.server_process import ServerProcess
from tests.harness.reconciliation import DATABASE_IS_DOWN, lease_owners

Fault = Callable[[Cluster, random.Random], Awaitable[None]]

# beyond the log of a run, and below what its database grows to
_FULL_AT_BYTES = 256 * 1024
_FULL_TICKS = 50


async def kill(cluster: Cluster, choose: random.Random) -> None:
    for _ in range(4):
        if await cluster.over_within(choose.uniform(0.2, 0.8)):
            return
        choose.choice(cluster.replicas).kill()


async def kill_every_second(cluster: Cluster, choose: random.Random) -> None:
    """One server of each kind, until the end, where another one is up.

    On a busy machine a start takes longer than a second: all of them would be starting always.
    """
    while not await cluster.over_within(1.0):
        for replicas in (cluster.campaigns, cluster.segments):
            up = [replica for replica in replicas if replica.is_up]
            if len(up) > 1:
                choose.choice(up).kill()
                cluster.fired["kill-every-second"] += 1


async def drain(cluster: Cluster, choose: random.Random) -> None:
    """A rolling restart of everyone, as for a new version."""
    for replica in choose.sample(cluster.replicas, k=len(cluster.replicas)):
        if await cluster.over_within(choose.uniform(0.2, 0.5)):
            return
        replica.drain()


async def freeze(cluster: Cluster, choose: random.Random) -> None:
    """Longer than a lease: when it wakes up, its work is someone else's."""
    for _ in range(2):
        if await cluster.over_within(choose.uniform(0.2, 0.8)):
            return
        replica = choose.choice(await _at_work(cluster))
        replica.freeze()
        over = await cluster.over_within(cluster.scenario.lease_seconds * 1.3 + 0.2)
        replica.thaw()
        cluster.fired["freeze"] += not over


async def freeze_sender(cluster: Cluster, choose: random.Random) -> None:
    """One process that sends, and not the server that it belongs to."""
    for _ in range(2):
        if await cluster.over_within(choose.uniform(0.2, 0.8)):
            return
        senders = [pid for each in cluster.campaigns for pid in each.senders]
        if not senders:
            continue
        pid = choose.choice(senders)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            over = await cluster.over_within(cluster.scenario.lease_seconds * 1.3 + 0.2)
            os.kill(pid, signal.SIGCONT)
            cluster.fired["freeze-sender"] += not over


async def freeze_segment(cluster: Cluster, choose: random.Random) -> None:
    for _ in range(2):
        if await cluster.over_within(choose.uniform(0.1, 0.6)):
            return
        replica = choose.choice(cluster.segments)
        replica.freeze()
        over = await cluster.over_within(choose.uniform(0.5, 2.5))
        replica.thaw()
        cluster.fired["freeze-segment"] += not over


async def _at_work(cluster: Cluster) -> list[ServerProcess]:
    """The campaign servers that have a lease, or all where that can't be told."""
    try:
        owners = await asyncio.to_thread(lease_owners, cluster.database_url, CAMPAIGN_ID)
    except DATABASE_IS_DOWN:
        owners = []
    pids = [int(owner.rpartition(":")[2]) for owner in owners]
    return [
        each for each in cluster.campaigns if any(each.has(pid) for pid in pids)
    ] or cluster.campaigns


async def join(cluster: Cluster, choose: random.Random) -> None:
    """Another server comes up while the work of one that died waits to be taken over."""
    if await cluster.over_within(choose.uniform(0.3, 0.9)):
        return
    choose.choice(cluster.campaigns).kill()
    cluster.add_campaign_server()
    cluster.fired["join"] += 1


async def cut_segment(cluster: Cluster, choose: random.Random) -> None:
    for _ in range(5):
        if await cluster.over_within(choose.uniform(0.1, 0.5)):
            return
        cluster.fired["cut-segment"] += choose.choice(cluster.to_segments).cut(choose)


async def hold_segment(cluster: Cluster, choose: random.Random) -> None:
    for _ in range(2):
        if await cluster.over_within(choose.uniform(0.1, 0.6)):
            return
        before = sum(proxy.held_bytes for proxy in cluster.to_segments)
        for proxy in cluster.to_segments:
            proxy.hold()
        await cluster.over_within(choose.uniform(0.3, 1.5))
        for proxy in cluster.to_segments:
            proxy.let_go()
        after = sum(proxy.held_bytes for proxy in cluster.to_segments)
        cluster.fired["hold-segment"] += after > before


async def refuse_segment(cluster: Cluster, choose: random.Random) -> None:
    for _ in range(2):
        if await cluster.over_within(choose.uniform(0.1, 0.6)):
            return
        for proxy in cluster.to_segments:
            proxy.refuse()
        await cluster.over_within(choose.uniform(1.0, 3.0))
        for proxy in cluster.to_segments:
            proxy.let_go()
    cluster.fired["refuse-segment"] += sum(proxy.refused for proxy in cluster.to_segments)


async def start_without_segments(cluster: Cluster, choose: random.Random) -> None:
    """The clock says that it is time, and nobody can tell who is meant."""
    for proxy in cluster.to_segments:
        proxy.refuse()
    await cluster.over_within(choose.uniform(2.0, 3.0))
    for proxy in cluster.to_segments:
        proxy.let_go()
    cluster.fired["start-without-segments"] += sum(proxy.refused for proxy in cluster.to_segments)


async def full_disk(cluster: Cluster, choose: random.Random) -> None:
    """Until a write was refused; who starts meanwhile finds it full, too."""
    for _ in range(2):
        if await cluster.over_within(choose.uniform(0.2, 0.8)):
            return
        before = _refused_by_disk(cluster)
        for _ in range(_FULL_TICKS):
            cluster.limit_files(_FULL_AT_BYTES)
            if await cluster.over_within(0.1) or _refused_by_disk(cluster) > before:
                break
        cluster.limit_files(-1)
        cluster.fired["full-disk"] += _refused_by_disk(cluster) - before


def _refused_by_disk(cluster: Cluster) -> int:
    return sum(replica.said_of_disk() for replica in cluster.replicas)


async def restart_postgres(cluster: Cluster, choose: random.Random, *, crash: bool) -> None:
    assert cluster.postgres is not None
    for _ in range(3):
        if await cluster.over_within(choose.uniform(0.3, 1.0)):
            return
        async with cluster.postgres.down(crash=crash):
            await cluster.over_within(choose.choice((0, 0, 0.5)))
        cluster.fired["crash-postgres" if crash else "restart-postgres"] += 1


async def start_without_postgres(cluster: Cluster, choose: random.Random) -> None:
    """All servers die with the database, and are started again before it is."""
    assert cluster.postgres is not None
    if await cluster.over_within(choose.uniform(0.3, 1.0)):
        return
    async with cluster.postgres.down(crash=True):
        for replica in cluster.replicas:
            replica.kill()
        await cluster.over_within(1.0)
    # the servers that wait to start say so themselves


async def cut_postgres(cluster: Cluster, choose: random.Random) -> None:
    assert cluster.to_postgres is not None
    for _ in range(6):
        if await cluster.over_within(choose.uniform(0.1, 0.5)):
            return
        share = choose.choice((0.3, 0.6, 1.0))
        cluster.fired["cut-postgres"] += cluster.to_postgres.cut(choose, share)


async def hold_postgres(cluster: Cluster, choose: random.Random) -> None:
    assert cluster.to_postgres is not None
    for _ in range(2):
        if await cluster.over_within(choose.uniform(0.1, 0.6)):
            return
        before = cluster.to_postgres.held_bytes
        cluster.to_postgres.hold()
        await cluster.over_within(choose.uniform(0.3, 2.0))
        cluster.to_postgres.let_go()
        cluster.fired["hold-postgres"] += cluster.to_postgres.held_bytes > before


async def lose_commit(cluster: Cluster, choose: random.Random) -> None:
    assert cluster.to_postgres is not None
    for _ in range(6):
        cluster.to_postgres.lose_commit()
        if await cluster.over_within(choose.uniform(0.02, 0.4)):
            break
    cluster.fired["lose-commit"] += cluster.to_postgres.lost_commits


# the others are steps of the campaign driver, or ends of a server's life
FAULTS: Mapping[str, Fault] = {
    "kill": kill,
    "kill-every-second": kill_every_second,
    "drain": drain,
    "freeze": freeze,
    "freeze-sender": freeze_sender,
    "freeze-segment": freeze_segment,
    "join": join,
    "cut-segment": cut_segment,
    "hold-segment": hold_segment,
    "refuse-segment": refuse_segment,
    "start-without-segments": start_without_segments,
    "full-disk": full_disk,
    "lock-sqlite": lock_sqlite,
    "restart-postgres": partial(restart_postgres, crash=False),
    "crash-postgres": partial(restart_postgres, crash=True),
    "start-without-postgres": start_without_postgres,
    "cut-postgres": cut_postgres,
    "hold-postgres": hold_postgres,
    "lose-commit": lose_commit,
    "refuse-writes": refuse_writes,
}
