"""Channels from a Herald process to a Herald server."""

import ipaddress
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from herald_rpc.addresses import is_loopback
from herald_rpc.certificates import CertificateFiles, Certificates, CertificateWatch
from herald_rpc.client.secure_channel import SecureChannel

SERVICE_CONFIG = Path(__file__).with_name("service_config.json")
"""How calls are balanced and which are retried, for clients in any language."""

_Options = Sequence[tuple[str, Any]]

# A web proxy does not lead to a Herald server, and never to loopback.
_DIRECT = (("grpc.enable_http_proxy", 0),)

_OPTIONS = (
    ("grpc.service_config", SERVICE_CONFIG.read_text()),
    # A frozen or unreachable server is abandoned after 8 s. A slow one is not, because gRPC's
    # threads answer its pings. Herald's servers permit a ping every 2 s.
    ("grpc.keepalive_time_ms", 4_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    # gRPC uses this time-out, by default 60 s, for keepalive pings too (grpc/grpc#39239).
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own back-off grows to two minutes, during which a restarted server goes unused.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # This also limits a connection attempt; 20 s by default.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # A lost host name is looked up again this often. With gRPC's 30 s, a pod that has moved was found
    # after 22 s; the pauses after lookups that fail grow from 1 s to 120 s, and have no option.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # A slowly read stream is at most 64 KiB ahead of its reader. With a growing window, a segment
    # server would be busy for a second with targets that the campaign needs over ten seconds.
    ("grpc.http2.bdp_probe", 0),
    *_DIRECT,
)

# A retry would stay on the channel, and wait 5 s for it to connect, where another one is ready.
_ONE_OF_SEVERAL = (("grpc.enable_retries", 0),)

_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


class TargetError(ValueError):
    """A part of the target is not `host:port`."""

    def __init__(self, target: str) -> None:
        super().__init__(f"{target!r} is not host:port, nor several of these with commas between")
        self.target = target


@dataclass(frozen=True, slots=True)
class ChannelSecurity:
    """How a channel is protected. Without `files.ca` it has no TLS.

    `files.certificate` and `files.key` are for a server that demands a client certificate.
    `server_name` is the name in the server's certificate, if it is not that of the target.
    """

    files: CertificateFiles = field(default_factory=CertificateFiles)
    server_name: str = ""
    token: str = field(default="", repr=False)


UNPROTECTED = ChannelSecurity()

# how gRPC names a server that closes a connection at its beginning, and does not say why
_CLOSED = ("Socket closed", "Connection reset", "Broken pipe")


def with_advice(problem: str, security: ChannelSecurity) -> str:
    """Adds to the text of a lost connection which setting the server may want."""
    if not any(closed in problem for closed in _CLOSED):
        return problem
    if not security.files.ca:
        return f"{problem}; a server with TLS needs HERALD_TLS_CA"
    return f"{problem}; the server may refuse HERALD_TLS_CLIENT_CERT, or need it"


class PlainTokenError(ValueError):
    """A token would go over a network in plain text, where others can read it."""

    def __init__(self, target: str) -> None:
        super().__init__(
            f"HERALD_TOKEN would go to {target} in plain text: "
            "set HERALD_TLS_CA, or HERALD_INSECURE=true"
        )


def require_confidential(target: str, security: ChannelSecurity) -> None:
    """Raises `PlainTokenError` if the channel would send a token beyond loopback without TLS."""
    if security.token and not security.files.ca:
        for address in target.split(","):
            if not is_loopback(address.strip()):
                raise PlainTokenError(address.strip())


@asynccontextmanager
async def open_channels(
    target: str, security: ChannelSecurity = UNPROTECTED
) -> AsyncIterator[dict[str, grpc.aio.Channel]]:
    """Opens the channels that a target takes, by the part of the target that each connects to.

    `target` is one or several `host:port` with commas between, by names or addresses. A channel
    spreads calls over the healthy ones of its addresses, and connects with the first call. If it is
    the only one, a repeatable call, also a stream, that gets UNAVAILABLE before any part of its
    response is tried up to four times in all. The reader must resume a stream that breaks later.
    See `SERVICE_CONFIG`, and `ChannelPicker` for several channels.

    Raises `TargetError` for any other target, and `CertificateError`.
    """
    uris = target_uris(target)
    options = _OPTIONS if len(uris) == 1 else (*_OPTIONS, *_ONE_OF_SEVERAL)
    async with AsyncExitStack() as stack:
        yield {
            part: await stack.enter_async_context(_channel(uri, security, options))
            for part, uri in uris.items()
        }


def open_direct_channel(server: str, security: ChannelSecurity = UNPROTECTED) -> grpc.aio.Channel:
    """Returns a channel to one server, `host:port`, which is called whatever its health is.

    Raises `TargetError` and `CertificateError`.
    """
    if "," in server:
        raise TargetError(server)
    (uri,) = target_uris(server).values()
    return _channel(uri, security, _DIRECT)


def _channel(uri: str, security: ChannelSecurity, options: _Options) -> grpc.aio.Channel:
    if security == UNPROTECTED:
        return grpc.aio.insecure_channel(uri, options=options)
    watch = CertificateWatch(security.files) if security.files.ca else None
    opened = partial(_open, uri, security.server_name, options)
    return SecureChannel(opened, watch, security.token)


def _open(
    uri: str, server_name: str, options: _Options, certificates: Certificates | None
) -> grpc.aio.Channel:
    if certificates is None:
        return grpc.aio.insecure_channel(uri, options=options)
    named = (("grpc.ssl_target_name_override", server_name),) if server_name else ()
    credentials = grpc.ssl_channel_credentials(
        certificates.ca, certificates.key, certificates.chain
    )
    return grpc.aio.secure_channel(uri, credentials, options=(*options, *named))


def target_uris(target: str) -> dict[str, str]:
    """Returns gRPC's names of a target, `ipv4:…`, `ipv6:…` or `dns:///…`, by the part of each.

    gRPC takes a list of addresses of one family, but a single host name. So all addresses of a
    family share a channel, and each host name has one, whose name gRPC resolves again when
    connections are lost.

    Raises `TargetError` as `open_channels` does.
    """
    families: dict[str, list[str]] = {}
    for address in (part.strip() for part in target.split(",")):
        scheme = _scheme(address)
        if scheme is None:
            raise TargetError(target)
        families.setdefault(f"dns:///{address}" if scheme == "dns" else scheme, []).append(address)
    uris: dict[str, str] = {}
    for scheme, addresses in families.items():
        part = ",".join(dict.fromkeys(addresses))
        uris[part] = scheme if scheme.startswith("dns") else f"{scheme}:{part}"
    return uris


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
