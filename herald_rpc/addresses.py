"""Addresses that only this machine reaches."""

import ipaddress


def is_loopback(address: str) -> bool:
    """Returns whether only this machine reaches the `host:port`, or the socket `unix:path`.

    A name other than `localhost` may be anything, and counts as reachable.
    """
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
