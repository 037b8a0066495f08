"""Channels from one of our processes to a server of ours."""

import ipaddress
import re
from pathlib import Path

import grpc

SERVICE_CONFIG = Path(__file__).with_name("service_config.json")
"""How calls are balanced and which are tried again; for clients in any language."""

_OPTIONS = (
    ("grpc.service_config", SERVICE_CONFIG.read_text()),
    # A server that is frozen or unreachable is left after 8 s. One that is only slow is not: its
    # pings are answered by gRPC's threads. Our servers permit a ping every 2 s.
    ("grpc.keepalive_time_ms", 4_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    # gRPC takes this one, of 60 s by default, for pings of keepalive too (grpc/grpc#39239).
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own back-off grows to two minutes, in which a server that is back goes unused.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # This is also how long a connection attempt may take, 20 s by default.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # A stream that is read slowly is 64 KiB ahead of its reader and no more. With a window that
    # grows, a segment server is busy for a second with all that a campaign will need in ten.
    ("grpc.http2.bdp_probe", 0),
    # A proxy for the web is no way to a server of ours, loopback least of all.
    ("grpc.enable_http_proxy", 0),
)


_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


class TargetError(ValueError):
    """A target is neither `host:port` nor a list of numeric ones."""

    def __init__(self, target: str) -> None:
        super().__init__(f"{target!r} is not host:port, nor a list of ip:port with commas between")
        self.target = target


def open_channel(target: str) -> grpc.aio.Channel:
    """Open a channel that spreads calls over the healthy ones of its servers.

    `target` is one `host:port`, or several of numeric IPv4 or numeric IPv6 addresses with commas
    between. Connecting happens with the first call. A call that meets UNAVAILABLE before
    anything of its answer has arrived is tried up to four times in all if it may be repeated,
    streams too; a stream that breaks later is for its reader to resume. See `SERVICE_CONFIG`.

    Raises `TargetError` if the target is none of these.
    """
    return grpc.aio.insecure_channel(target_uri(target), options=_OPTIONS)


def target_uri(target: str) -> str:
    """Return a target by gRPC's name for it: `ipv4:…`, `ipv6:…` or `dns:///…`.

    Raises `TargetError` as `open_channel` does.
    """
    addresses = [address.strip() for address in target.split(",")]
    schemes = [_scheme(address) for address in addresses]
    if schemes == ["dns"]:
        return f"dns:///{addresses[0]}"
    if None in schemes or "dns" in schemes or len(set(schemes)) > 1:
        raise TargetError(target)
    return f"{schemes[0]}:{','.join(addresses)}"


def _scheme(address: str) -> str | None:
    parts = _HOST_AND_PORT.fullmatch(address)
    if parts is None:
        return None
    host, port = parts.groups()
    if not 0 < int(port) < 2**16:
        return None
    try:
        return f"ipv{ipaddress.ip_address(host.strip('[]')).version}"
    except ValueError:
        return None if host.startswith("[") else "dns"
