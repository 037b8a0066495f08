"""How the interpreter is set for a server."""

import gc
import sys

_SWITCH_SECONDS = 0.0005
_YOUNG_OBJECTS = 50_000


def tune() -> None:
    """Call once, when everything is imported.

    A database driver's thread that has its result waits for the interpreter lock as long as the
    event loop is busy, 5 ms by default and several times a transaction: longer than the work
    itself. And what was made at start lives as long as the process, so that collecting garbage
    need not look at it again each time a page of records has come and gone.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 20)
