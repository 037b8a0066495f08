"""Addresses to listen on, and which of them only this machine reaches."""

import ipaddress

_LOOPBACK = "127.0.0.1"
_LAST_PORT = 65_535


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


def host_and_port(listen: str) -> tuple[str, int]:
    """Reads `host:port`, `[::1]:port`, or a port alone, which means loopback. Raises ValueError."""
    host, _, port = listen.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > _LAST_PORT:
        raise ValueError("must be host:port, or a port alone")
    return host.strip("[]") or _LOOPBACK, int(port)


def next_address(listen: str, number: int) -> str:
    """Returns the address with the port that is `number` behind; port 0 stays any free one."""
    host, port = host_and_port(listen)
    return (
        f"[{host}]:{port and port + number}" if ":" in host else f"{host}:{port and port + number}"
    )
