"""Several processes that run the same command and share its work."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from herald_rpc.process.worker_process import WorkerProcess


class WorkerProcesses:
    def __init__(self, processes: Sequence[WorkerProcess]) -> None:
        self._processes = processes

    def wake(self) -> None:
        for process in self._processes:
            process.wake()

    @property
    def is_well(self) -> bool:
        """Whether at least one process can work."""
        return any(process.is_well for process in self._processes)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set, and returns when all processes have ended."""
        async with asyncio.TaskGroup() as group:
            for process in self._processes:
                group.create_task(process.run(stop))


@asynccontextmanager
async def start_processes(
    name: str, command: Sequence[str], count: int
) -> AsyncIterator[WorkerProcesses]:
    """Starts `count` processes; see `WorkerProcess`.

    They are numbered in logs, and the command gets its `--number`, from 0 on.
    """
    async with AsyncExitStack() as stack:
        yield WorkerProcesses(
            [
                await stack.enter_async_context(
                    WorkerProcess(f"{name} {number}", [*command, "--number", str(number)])
                )
                for number in range(count)
            ]
        )
