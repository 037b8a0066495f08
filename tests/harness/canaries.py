"""Finds secrets in logs and other texts, by their shape or because their maker has told them.

Without pytest, because `make demo` has none; see `canary_plugin`.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

DATABASE_PASSWORD = "canary-of-the-database-password"  # noqa: S105 - the servers take any

_SHAPES = {
    "a token": rb"herald_[0-9a-f]{16}_[0-9a-f]{64}",
    # or its digest, which is nobody's business either
    "a token's secret": rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])",
    "a webhook's secret": rb"whsec_[A-Za-z0-9+/]{16,}",
    "a private key": rb"PRIVATE KEY-----",
    "the database password": DATABASE_PASSWORD.encode(),
}
_SHAPE = re.compile(b"|".join(b"(%b)" % shape for shape in _SHAPES.values()))
# for the message: where the secret is, without most of it
_BEFORE, _SHOWN = 120, 24


@dataclass
class Canaries:
    """The secrets that are known, the logs that are watched, and what was found."""

    is_watching: bool = False
    _told: set[bytes] = field(default_factory=set)
    _logs: list[tuple[Path, BinaryIO]] = field(default_factory=list)
    _found: list[str] = field(default_factory=list)

    def tell(self, secret: bytes) -> None:
        """Has a secret found that has no shape of its own."""
        self._told.add(secret)

    def watch(self, log: Path) -> None:
        """Has the file read after each test; also when it is deleted before."""
        if self.is_watching:
            log.touch()
            self._logs.append((log, log.open("rb")))

    def look_at(self, text: bytes, where: str) -> None:
        """Notes the secrets in the text."""
        found = [
            (match.start(), list(_SHAPES)[(match.lastindex or 1) - 1])
            for match in _SHAPE.finditer(text)
        ]
        found += [(text.index(secret), "a private key") for secret in self._told if secret in text]
        for start, kind in found:
            shown = text[max(0, start - _BEFORE) : start + _SHOWN].decode(errors="replace")
            self._found.append(f"{kind} in {where}: …{shown}…")

    def findings(self) -> list[str]:
        """Reads what was added to the logs, and returns what was found since the last time."""
        for log, file in [*self._logs]:
            self.look_at(b"".join(_lines(file)), str(log))
            if not os.fstat(file.fileno()).st_nlink:
                file.close()
                self._logs.remove((log, file))
        found, self._found = self._found, []
        return found


canaries = Canaries()
"""Those of this process."""


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The rest of the file, without a line that is still being written."""
    for line in file:
        if not line.endswith(b"\n") and os.fstat(file.fileno()).st_nlink:
            file.seek(-len(line), os.SEEK_CUR)
            return
        yield line
