"""How the interpreter is set for a server."""

import gc
import sys

_SWITCH_SECONDS = 0.0005
# all calls wait while garbage is collected: for so many objects, 2 to 4 ms
_YOUNG_OBJECTS_OF_CALLS = 2_000
# what a page brings along goes with it, and needs no looking at meanwhile
_YOUNG_OBJECTS_OF_PAGES = 50_000


def tune() -> None:
    """Call once, when everything is imported.

    A database driver's thread that has its result waits for the interpreter lock as long as the
    event loop is busy, 5 ms by default and several times a transaction: longer than the work
    itself. And what was made at start lives as long as the process, so that collecting garbage
    need not look at it again.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS_OF_CALLS, 20, 20)


def tune_for_pages() -> None:
    """Call in a process that has no callers and goes through pages of records."""
    gc.set_threshold(_YOUNG_OBJECTS_OF_PAGES, 20, 20)
