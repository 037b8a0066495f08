"""Notifies the service manager of the states of a server, as sd_notify(3) has it.

systemd (Type=notify) sets NOTIFY_SOCKET, and so do others that follow its protocol.
"""

import os
import socket
from contextlib import suppress

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(*states: str) -> None:
    """Sends the states in one message. No effect without a manager, or with one that hangs."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # "@" stands for the zero byte of Linux's abstract names
    path = f"\0{address[1:]}" if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)  # noqa: FBT003 - its only argument
        manager.sendto("\n".join(states).encode(), path)
