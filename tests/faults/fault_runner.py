"""A database with the users of the suite in it for each run, copied from one that was filled once."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults import dataset
from tests.faults.audiences import ROOMS, USERS
from tests.faults.cluster import RestartablePostgres
from tests.faults.run import Outcome, play
from tests.faults.scenario import Scenario
from tests.harness.postgres import migrated


class FaultRunner:
    """What a broken run has left stays in `folder`, with its logs and `problem.txt`.

    Without a PostgreSQL it is for scenarios on SQLite.
    """

    def __init__(
        self,
        folder: Path,
        postgres: RestartablePostgres | None,
        *,
        users: int = USERS,
        rooms: int = ROOMS,
    ) -> None:
        self._folder = folder
        self._postgres = postgres
        self._users = users
        self._rooms = rooms
        self._template: dict[str, str] = {}

    async def play(self, scenario: Scenario) -> Outcome:
        folder = self._folder / f"seed-{scenario.seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        template = await self._crowd(scenario.dialect)
        with self._database(scenario, template, folder) as url:
            outcome = await play(scenario, url, folder, self._postgres)
        if outcome.problem:
            (folder / "problem.txt").write_text(f"{outcome}\n\n{outcome.problem}\n")
        else:
            shutil.rmtree(folder)
        return outcome

    async def _crowd(self, dialect: str) -> str:
        if dialect not in self._template:
            if self._postgres and dialect == "postgresql":
                self._template[dialect] = self._postgres.server.fresh_database()
                url = self._postgres.server.url(self._template[dialect])
            else:
                self._template[dialect] = str(self._folder / "crowd.db")
                url = f"sqlite+aiosqlite:///{self._template[dialect]}"
                migrated(url)
            await dataset.populate(url, self._users, self._rooms)
        return self._template[dialect]

    @contextmanager
    def _database(self, scenario: Scenario, template: str, folder: Path) -> Iterator[str]:
        if scenario.dialect == "sqlite":
            yield f"sqlite+aiosqlite:///{shutil.copy(template, folder / 'herald.db')}"
            return
        assert self._postgres is not None
        name = self._postgres.server.fresh_database(template)
        yield self._postgres.server.url(name)
        self._postgres.server.drop_database(name)
