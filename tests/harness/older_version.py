"""Another version of Herald, out of this clone's history, to be run beside this one."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from tests.harness.parent_death import die_with_parent

ROOT = Path(__file__).parents[2]
_MIGRATIONS = "chat_store/database/migrations/versions"


class NoHistoryError(Exception):
    """This clone has no other commit than its newest."""

    def __init__(self) -> None:
        super().__init__(
            "no version to run beside this one: this clone has one commit, so fetch its history "
            "(git fetch --unshallow)"
        )


class OlderVersion:
    """The code of a commit, in a folder of its own; it runs with this environment's packages."""

    def __init__(self, commit: str, folder: Path) -> None:
        archive = _git("archive", "--format=tar", commit)
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        self._folder = folder

    def run(
        self, module: str, environment: Mapping[str, str], log: Path | None
    ) -> subprocess.Popen[bytes]:
        """Runs a module with these HERALD_* variables; for a `Server`, which needs a log."""
        assert log
        with log.open("ab") as output:
            return subprocess.Popen(
                die_with_parent([sys.executable, "-m", module]),
                cwd=self._folder,
                env=self._environment(environment),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def migrate(self, database_url: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "chat_store", "migrate"],
            cwd=self._folder,
            env=self._environment({"HERALD_DATABASE_URL": database_url}),
            check=True,
            capture_output=True,
            timeout=100,
        )

    def _environment(self, given: Mapping[str, str]) -> dict[str, str]:
        outer = {name: value for name, value in os.environ.items() if "HERALD_" not in name}
        path = os.pathsep.join([str(self._folder), str(self._folder / "protos" / "python")])
        return {**outer, "PYTHONPATH": path, **given}


def commit_before() -> str:
    """The newest commit but this one. Raises `NoHistoryError`."""
    return _commit("rev-parse", "--verify", "--quiet", "HEAD~1")


def commit_before_the_newest_schema() -> str:
    """The last commit that knew one revision of the schema less. Raises `NoHistoryError`."""
    newest = max(path.name for path in (ROOT / _MIGRATIONS).glob("0*.py"))
    added = _commit("log", "--diff-filter=A", "--format=%H", "-1", "--", f"{_MIGRATIONS}/{newest}")
    return _commit("rev-parse", "--verify", "--quiet", f"{added}~1")


def _commit(*arguments: str) -> str:
    try:
        found = _git(*arguments).decode().strip()
    except subprocess.CalledProcessError as error:
        raise NoHistoryError from error
    if not found:
        raise NoHistoryError
    return found


def _git(*arguments: str) -> bytes:
    return subprocess.run(
        ["git", *arguments],  # noqa: S607 - whichever git made the clone
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=100,
    ).stdout
