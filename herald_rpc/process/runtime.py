"""Tunes the interpreter for a server or a sender."""

import faulthandler
import gc
import sys

_SWITCH_SECONDS = 0.0005
# generation 0 of a server: a collection of 2,000 objects pauses calls for 2 to 4 ms
_YOUNG_OBJECTS_OF_CALLS = 2_000
# of a sender: the objects of a page die with it, so collections are rare
_YOUNG_OBJECTS_OF_PAGES = 50_000


def tune() -> None:
    """Tunes a server. Call it once, when everything is imported.

    A database driver's thread with a result waits for the interpreter lock while the event loop is
    busy: 5 ms by default, several times a transaction, which is longer than the work itself.
    Objects made at the start live as long as the process, so they are excluded from collections.

    A crash in C code, of gRPC or a driver, leaves the Python stacks of all threads in the log.
    """
    faulthandler.enable()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS_OF_CALLS, 20, 20)


def tune_for_pages() -> None:
    """Tunes a process that has no callers and handles pages of records."""
    gc.set_threshold(_YOUNG_OBJECTS_OF_PAGES, 20, 20)
