import os
import subprocess
import sys
from pathlib import Path

import pytest

from chat_store.imports.lines import CHUNK_BYTES

RECORD = b'{"type": "user", "data": {"id": "user-%d", "note": "%s"}}\n'

# A process's peak counts what it was before its program began: the memory of who started it.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_memory(file: Path, database: Path) -> int:
    """Of an import of `file` as a process of its own, in KiB."""
    import_ = [sys.executable, "-m", "chat_store", "import", str(file)]
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *import_],
        env=os.environ | {"HERALD_DATABASE_URL": f"sqlite:///{database}"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(measured.stdout)


@pytest.mark.nightly
def test_memory_does_not_grow_with_the_file(sqlite_url: str, tmp_path: Path) -> None:
    """The same few users over and over, so that what grows is no cache of the database's."""
    database = Path(sqlite_url.removeprefix("sqlite+aiosqlite:///"))
    chunk = b"".join(RECORD % (number % 50, b"x" * 5_000) for number in range(CHUNK_BYTES // 5_000))
    peaks = []
    for chunks in (2, 6):
        file = tmp_path / f"{chunks}.jsonl"
        file.write_bytes(chunk * chunks)
        peaks.append(peak_memory(file, database))

    few, many = peaks

    assert many - few < 2 * CHUNK_BYTES / 1024
