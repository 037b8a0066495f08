"""Children that do not outlive this process, however it ends."""

import shutil
import signal
from collections.abc import Sequence


def die_with_parent(
    command: Sequence[str], at_the_end: signal.Signals = signal.SIGTERM
) -> list[str]:
    """The command, under a guard that signals it when its parent is gone, even killed.

    Linux only; elsewhere the command as it is. To be started from the main thread: the kernel
    takes the end of the starting thread for the parent's.
    """
    guard = shutil.which("setpriv")
    if guard is None:
        return list(command)
    return [guard, "--pdeathsig", at_the_end.name.removeprefix("SIG"), "--", *command]
