"""A file beside an SQLite database that is not restored when the database file is."""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkstemp


@dataclass(frozen=True, slots=True)
class Generation:
    """A point in a database's history. `origin` is a random name shared by all its generations."""

    origin: str
    number: int


class GenerationFile:
    """The file `herald.db.generation` beside `herald.db`.

    Only committed generations are written to it, so it is never ahead of its own database. Two
    servers that write at once may leave the older one; the next check corrects that.
    """

    def __init__(self, database_file: Path) -> None:
        self._database = database_file
        self._path = Path(f"{database_file}.generation")

    def read(self) -> Generation | None:
        """Returns the file's generation; None if the file is missing or invalid."""
        try:
            return Generation(**json.loads(self._path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, generation: Generation) -> None:
        """Replaces the file atomically: a power cut leaves this generation or the previous one."""
        is_new = not self._path.exists()
        descriptor, new = mkstemp(prefix=f"{self._path.name}.", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                # the server must be able to read a file that a command of root has written
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
        """Returns times that change whenever anybody writes to the database."""
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
