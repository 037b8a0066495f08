"""The servers of a run, and what stands between them: each wire goes through a proxy."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy.engine import make_url

from tests.faults.scenario import Scenario, crashes_for
from tests.faults.server_process import ServerProcess
from tests.harness.postgres import Postgres, temporary_postgres
from tests.harness.processes import free_address
from tests.harness.proxy import Proxy, relayed

# what was acknowledged survives a crash of the server, if not a power cut
POSTGRES_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "300"}

_COMMON = {
    "HERALD_LOG_FORMAT": "json",
    "HERALD_GRACE_SECONDS": "1",
    "HERALD_SIZING_INTERVAL_SECONDS": "0.5",
}
_LOOK_SECONDS = 0.05


class RestartablePostgres:
    """A PostgreSQL that goes and comes back without holding up the event loop.

    One thread starts them all, for they end with the thread that started them.
    """

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._thread = ThreadPoolExecutor(1)

    @asynccontextmanager
    async def down(self, *, crash: bool) -> AsyncIterator[None]:
        """It is up again when the context has ended, however it has."""
        try:
            await self._apart(partial(self.server.stop, crash=crash))
            yield
        finally:
            await self._apart(self.server.start)

    async def _apart(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)


@contextmanager
def restartable_postgres() -> Iterator[RestartablePostgres]:
    with temporary_postgres(POSTGRES_SETTINGS) as server:
        yield RestartablePostgres(server)


class Cluster:
    """`database_url` is the direct way. `started` is set when the campaign starts to be sent."""

    def __init__(
        self, scenario: Scenario, database_url: str, postgres: RestartablePostgres | None
    ) -> None:
        self.scenario = scenario
        self.database_url = database_url
        self.postgres = postgres
        self.segments: list[ServerProcess] = []
        self.campaigns: list[ServerProcess] = []
        self.to_segments: list[Proxy] = []
        self.to_postgres: Proxy | None = None
        self.started = asyncio.Event()
        self.over = asyncio.Event()
        self.fired: Counter[str] = Counter()
        self._tasks: asyncio.TaskGroup | None = None
        self._environment: dict[str, str] = {}
        self._folder = Path()

    @property
    def replicas(self) -> list[ServerProcess]:
        return [*self.segments, *self.campaigns]

    async def over_within(self, seconds: float) -> bool:
        """Waits, at most until the campaign is over; whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await self.over.wait()
        except TimeoutError:
            return False
        return True

    def add_campaign_server(self) -> ServerProcess:
        """One more, started at once."""
        address = free_address()
        replica = ServerProcess(
            "campaign_service",
            address,
            self._environment
            | {
                "HERALD_CAMPAIGN_LISTEN": address,
                "HERALD_SEGMENT_TARGET": ",".join(proxy.address for proxy in self.to_segments),
            },
            self._folder / f"campaign-{len(self.campaigns)}.log",
            crashes_for(self.scenario, "campaign_service"),
        )
        self.campaigns.append(replica)
        self._start(replica)
        return replica

    async def until_senders_are_up(self) -> None:
        """They import everything first, and would miss what happens meanwhile."""
        processes = self.scenario.sender_processes
        while not all(each.sends_in(processes) for each in self.campaigns):  # noqa: ASYNC110 - a log
            await asyncio.sleep(_LOOK_SECONDS)

    def limit_files(self, size: int) -> None:
        for replica in self.replicas:
            replica.limit_files(size)

    async def stop(self) -> None:
        """Everyone ends well, however harmed they were."""
        async with asyncio.TaskGroup() as group:
            for replica in self.replicas:
                group.create_task(replica.stop())

    def tails(self) -> str:
        return "\n\n".join(f"{each.module}:\n{each.tail()}" for each in self.replicas)

    async def open(self, stack: AsyncExitStack, folder: Path) -> None:
        self._folder = folder
        self._environment = _COMMON | _settings(self.scenario)
        self._environment["HERALD_DATABASE_URL"] = await self._way_to_database(stack)
        self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
        for number in range(self.scenario.segment_servers):
            address = free_address()
            replica = ServerProcess(
                "segment_service",
                address,
                self._environment | {"HERALD_SEGMENT_LISTEN": address},
                folder / f"segment-{number}.log",
                crashes_for(self.scenario, "segment_service"),
            )
            self.segments.append(replica)
            self.to_segments.append(await stack.enter_async_context(relayed(address)))
            self._start(replica)
        for _ in range(self.scenario.campaign_servers):
            self.add_campaign_server()

    async def _way_to_database(self, stack: AsyncExitStack) -> str:
        if self.postgres is None:
            return self.database_url
        url = make_url(self.database_url)
        socket = f"{url.query['host']}/.s.PGSQL.5432"
        self.to_postgres = await stack.enter_async_context(relayed(socket))
        return f"postgresql://postgres@{self.to_postgres.address}/{url.database}?sslmode=disable"

    def _start(self, replica: ServerProcess) -> None:
        assert self._tasks is not None
        self._tasks.create_task(replica.run())


@asynccontextmanager
async def running(
    scenario: Scenario,
    database_url: str,
    folder: Path,
    postgres: RestartablePostgres | None = None,
) -> AsyncIterator[Cluster]:
    """All servers of the scenario, kept running until they are told to stop.

    Raises what a server did that no fault explains.
    """
    cluster = Cluster(scenario, database_url, postgres)
    async with AsyncExitStack() as stack:
        await cluster.open(stack, folder)
        yield cluster


def _settings(scenario: Scenario) -> dict[str, str]:
    return {
        "HERALD_PAGE_SIZE": str(scenario.page_size),
        "HERALD_LEASE_SECONDS": str(scenario.lease_seconds),
        "HERALD_SENDER_SLOTS": str(scenario.slots),
        "HERALD_SENDER_PROCESSES": str(scenario.sender_processes),
        "HERALD_DISPATCHER_PROCESSES": str(scenario.dispatcher_processes),
    }
