"""The URL of a PostgreSQL database, as libpq reads it.

Each parameter has the same effect as in libpq, or is refused by name. Parameters that the driver
understands are passed on to it.
"""

import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from chat_store.errors import InvalidDatabaseUrlError

_URL = re.compile(
    r"[\w+]+://"
    r"((?P<user>[^:/?#@]*)(:(?P<password>[^/?#@]*))?@)?"
    r"(?P<hosts>[^/?#@]*)(/(?P<dbname>[^?#]*))?(\?(?P<query>[^#]*))?"
)
_HOST = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]*)(:(?P<port>\d*))?")
_DEFAULT_PORT = 5432
_CONNECT_SECONDS = 5.0
# as in libpq, which reads 1 s as 2 s
_SHORTEST_CONNECT_SECONDS = 2.0

_PLACE = frozenset({"host", "port", "dbname", "user", "password"})
_OF_THE_SERVER = frozenset({"application_name", "options"})
_FILES = frozenset({"sslcert", "sslkey", "sslrootcert", "sslcrl"})
_OF_THE_DRIVER = _FILES | {
    "gsslib",
    "krbsrvname",
    "passfile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
}
_TLS_VERSIONS = frozenset({"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
_NEVER = frozenset({"0", "false", "no", "off"})
# The supported values. The parameters in `_DONE_ANYWAY` ask for what the driver does anyway.
_VALUES: Mapping[str, frozenset[str]] = {
    "gsslib": frozenset({"gssapi"}),
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "sslmode": frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}),
    "sslnegotiation": frozenset({"postgres", "direct"}),
    "target_session_attrs": frozenset(
        {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"}
    ),
    "channel_binding": frozenset({"disable", "prefer"}),
    "client_encoding": frozenset({"auto", "UTF8", "utf8", "UTF-8", "utf-8"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "replication": _NEVER,
    "sslcompression": frozenset({"0"}),
    "sslsni": frozenset({"1"}),
}
_DONE_ANYWAY = frozenset(
    {"channel_binding", "client_encoding", "gssencmode", "replication", "sslcompression", "sslsni"}
)
_REFUSED: Mapping[str, str] = {
    "gssdelegation": "is not supported",
    "hostaddr": "is not supported; give the address as the host",
    "load_balance_hosts": "is not supported; hosts are tried in their order",
    "require_auth": "is not supported",
    "requirepeer": "is not supported",
    "service": "is not supported; write the service's parameters into the URL",
    "sslcertmode": "is not supported",
    "sslcrldir": "is not supported; give one file as sslcrl",
}
_KEEPALIVES: Mapping[str, int] = {
    "keepalives_idle": socket.TCP_KEEPIDLE,
    "keepalives_interval": socket.TCP_KEEPINTVL,
    "keepalives_count": socket.TCP_KEEPCNT,
}
_NUMBERS = frozenset({"connect_timeout", "keepalives", "tcp_user_timeout", *_KEEPALIVES})
_OURS = _NUMBERS | {"fallback_application_name", "ssl", "target_session_attrs"}
_KNOWN = _PLACE | _OF_THE_SERVER | _OF_THE_DRIVER | _DONE_ANYWAY | _OURS


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where a database is, and how to connect to it.

    Without `hosts` the driver tries the usual socket folders, as libpq does. `connect_seconds`
    apply to each host; None means no limit. `driver` has the parameters that asyncpg reads.
    `socket_options` are level, name and value, for TCP connections.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str | None
    password: str | None = field(repr=False)
    dbname: str | None
    driver: Mapping[str, str]
    server_settings: Mapping[str, str]
    target_session_attrs: str | None
    connect_seconds: float | None
    socket_options: tuple[tuple[int, int, int], ...]


def read_url(url: str) -> PostgresAddress:
    """Reads the URL. Raises `InvalidDatabaseUrlError`, which names the parameter at fault."""
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidDatabaseUrlError(
            "must be postgresql://user:password@host:port/database?parameter=value, "
            "with @ : / ? # in a password percent-encoded"
        )
    in_place = {
        name: unquote(value)
        for name in ("user", "password", "dbname")
        if (value := match[name]) is not None and value
    }
    given = _followed(dict(_parameters(match["query"] or "")))
    if "host" in given:
        hosts = given["host"].split(",")
    else:
        hosts = match["hosts"].split(",") if match["hosts"] else []
    if given.get("ssl") == "true":
        given.setdefault("sslmode", "require")
    return PostgresAddress(
        hosts=tuple(_hosts(hosts, given.get("port", ""), encoded="host" not in given)),
        user=given.get("user", in_place.get("user")),
        password=given.get("password", in_place.get("password")),
        dbname=given.get("dbname", in_place.get("dbname")),
        driver={name: given[name] for name in sorted(_OF_THE_DRIVER & given.keys())},
        server_settings=_server_settings(given),
        target_session_attrs=given.get("target_session_attrs"),
        connect_seconds=_connect_seconds(given),
        socket_options=tuple(_socket_options(given)),
    )


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    """Yields names and values. Skips empty values; the last one counts if a name occurs twice."""
    for part in query.split("&") if query else ():
        name, separator, value = part.partition("=")
        if not separator:
            # an unknown one may be the rest of a password with an "&" in it
            named = unquote(name) if unquote(name) in _KNOWN else "a parameter"
            raise InvalidDatabaseUrlError(f"{named}: has no value")
        if value:
            # in libpq's URLs, "+" is a plus sign and not a space
            yield unquote(name), unquote(value)


def _followed(given: dict[str, str]) -> dict[str, str]:
    for name, value in given.items():
        if name in _REFUSED:
            raise InvalidDatabaseUrlError(f"{name}: {_REFUSED[name]}")
        if name not in _KNOWN:
            # any other text may be the end of a password that nobody has percent-encoded
            named = name if re.fullmatch(r"[A-Za-z_]+", name) else "a parameter"
            raise InvalidDatabaseUrlError(f"{named}: is not a parameter of a PostgreSQL URL")
        if name in _VALUES and value not in _VALUES[name]:
            allowed = ", ".join(sorted(_VALUES[name]))
            raise InvalidDatabaseUrlError(f"{name}: must be one of {allowed}")
        if name == "ssl" and value != "true":
            raise InvalidDatabaseUrlError("ssl: must be true; other modes are given as sslmode")
        if name in _FILES and not Path(value).is_file():
            raise InvalidDatabaseUrlError(f"{name}: there is no such file")
        if name in _NUMBERS and not re.fullmatch(r"[+-]?\d{1,9}", value):
            raise InvalidDatabaseUrlError(f"{name}: must be a whole number")
    return given


def _hosts(hosts: list[str], ports: str, *, encoded: bool) -> Iterator[tuple[str, int]]:
    """Yields hosts with their ports, which stand beside a host in a URL, or in a separate list."""
    listed = ports.split(",") if ports else []
    if len(listed) > 1 and len(listed) != len(hosts):
        raise InvalidDatabaseUrlError("port: must be one, or one for each host")
    for number, text in enumerate(hosts):
        match = _HOST.fullmatch(text) if encoded else None
        host = unquote(match["host"]).strip("[]") if match else text
        if (encoded and match is None) or not host:
            raise InvalidDatabaseUrlError("host: one is empty or malformed")
        port = (match["port"] if match else "") or ""
        if listed:
            port = listed[number if len(listed) > 1 else 0]
        yield host, _port(port)


def _port(text: str) -> int:
    if not text:
        return _DEFAULT_PORT
    if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) < 1 << 16:
        raise InvalidDatabaseUrlError("port: must be a number from 1 to 65535")
    return int(text)


def _server_settings(given: Mapping[str, str]) -> Mapping[str, str]:
    settings = {name: given[name] for name in sorted(_OF_THE_SERVER & given.keys())}
    if fallback := given.get("fallback_application_name"):
        settings.setdefault("application_name", fallback)
    return settings


def _connect_seconds(given: Mapping[str, str]) -> float | None:
    if "connect_timeout" not in given:
        return _CONNECT_SECONDS
    seconds = int(given["connect_timeout"])
    return max(seconds, _SHORTEST_CONNECT_SECONDS) if seconds > 0 else None


def _socket_options(given: Mapping[str, str]) -> Iterator[tuple[int, int, int]]:
    """Yields socket options. A value of 0 leaves the setting to the system."""
    if int(given.get("keepalives", "1")):
        yield socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
        for name, option in _KEEPALIVES.items():
            if (value := int(given.get(name, "0"))) > 0:
                yield socket.IPPROTO_TCP, option, value
    if (value := int(given.get("tcp_user_timeout", "0"))) > 0:
        yield socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, value
