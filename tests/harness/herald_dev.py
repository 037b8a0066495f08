"""`herald dev` as a process, as somebody runs it who tries Herald."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERALD = Path(sys.executable).with_name("herald")


@contextmanager
def running_dev(
    folder: Path, settings: Mapping[str, str], herald: Path = HERALD, *before: str
) -> Iterator[subprocess.Popen[str]]:
    """Starts it in the folder, and yields when it says that both servers are up.

    `before` are words in front of the command. Kills it at the end, and the servers end with it.
    """
    outer = {name: value for name, value in os.environ.items() if not name.startswith("HERALD_")}
    with subprocess.Popen(
        [*before, str(herald), "dev"],
        cwd=folder,
        env={**outer, **settings},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert any("Herald is up" in line for line in process.stdout)
            yield process
        finally:
            process.kill()
