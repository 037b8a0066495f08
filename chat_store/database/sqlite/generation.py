"""A file beside an SQLite database that is not restored when the database file is."""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkstemp


@dataclass(frozen=True, slots=True)
class Generation:
    """How far a database was. `origin` is a random name, the same for all of its generations."""

    origin: str
    number: int


class GenerationFile:
    """`herald.db.generation` beside `herald.db`.

    Only committed generations are written to it, so that it is never ahead of its own database.
    Two servers that write at once may leave the older one: it is behind until the next look.
    """

    def __init__(self, database_file: Path) -> None:
        self._database = database_file
        self._path = Path(f"{database_file}.generation")

    def read(self) -> Generation | None:
        """None if the file is missing or holds something else."""
        try:
            return Generation(**json.loads(self._path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, generation: Generation) -> None:
        """Replaces the file as a whole: a power cut leaves this generation or the one before."""
        is_new = not self._path.exists()
        descriptor, new = mkstemp(prefix=f"{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                # a command that root runs must not lock the server out
                owner = self._database.stat()
                with suppress(PermissionError):
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
                json.dump(asdict(generation), file)
                file.flush()
                os.fsync(descriptor)
            Path(new).replace(self._path)
        except BaseException:
            Path(new).unlink()
            raise
        if is_new:
            _sync_folder(self._path.parent)

    def traces(self) -> tuple[int, ...]:
        """Differ from earlier ones if anybody has written to the database in between."""
        files = [self._database, Path(f"{self._database}-wal")]
        return tuple(_changed_at(file) for file in files)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
