"""Tunes the interpreter and the process for a server or a sender."""

import faulthandler
import gc
import resource
import sys
from contextlib import suppress

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
    allow_all_descriptors()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS_OF_CALLS, 20, 20)


def allow_all_descriptors() -> None:
    """Lets the process open as many files and connections as the system allows it to ask for.

    By default it may open 1,024: a thousand idle connections, which need no token, would keep all
    callers out, and the database's files closed.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # some systems name a limit that they do not give
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def tune_for_pages() -> None:
    """Tunes a process that has no callers and handles pages of records."""
    gc.set_threshold(_YOUNG_OBJECTS_OF_PAGES, 20, 20)
