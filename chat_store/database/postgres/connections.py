"""Connections to PostgreSQL: to the first host that accepts one, with session settings."""

import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg

from chat_store.database.postgres.urls import PostgresAddress
from chat_store.errors import InvalidDatabaseUrlError

SESSION: Mapping[str, str] = {
    # a generic plan made while a table was empty would read the whole table when it is large
    "plan_cache_mode": "force_custom_plan",
    # roles and databases may set other values, with which statements would return other results
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "array_nulls": "on",
    "bytea_output": "hex",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "extra_float_digits": "1",
    "gin_fuzzy_search_limit": "0",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
}
"""Leaves out read-only transactions and time-outs, because operators set those on purpose."""

_OTHER_HOSTS_MAY_DO = (
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)


class _Connection(asyncpg.Connection):
    """A connection that keeps its transport, so that options of its socket can be set."""

    __slots__ = ("transport",)

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        self.transport = transport


async def connect(address: PostgresAddress) -> _Connection:
    """Connects to the first host that accepts.

    Raises the last host's error, which names the host, or `InvalidDatabaseUrlError` for contradicting parameters. The
    driver's own loop over hosts has one time-out for all, so a silent first host would use it up.
    """
    attempts: list[str | None] = [address.target_session_attrs]
    if address.target_session_attrs == "prefer-standby":
        attempts = ["standby", "any"]
    failure: Exception | None = None
    for attributes in attempts:
        for host, port in address.hosts or ((None, None),):
            try:
                return await _connect(address, host, port, attributes)
            except asyncpg.ClientConfigurationError as error:
                raise InvalidDatabaseUrlError(str(error)) from error
            except OSError as error:
                failure = _unreachable(host, port, error)
            except _OTHER_HOSTS_MAY_DO as error:
                failure = error
    raise failure or ConnectionError("no host is given")


def _unreachable(host: str | None, port: int | None, error: OSError) -> ConnectionError:
    """Names the host, because errors about sockets and of time-outs do not."""
    if host is None:
        place = "in the usual folders of sockets or on localhost"
    elif host.startswith("/"):
        place = f"at the socket {host}/.s.PGSQL.{port}"
    else:
        place = f"at {host}:{port}"
    problem = error.strerror or str(error) or "no answer in time"
    return ConnectionError(f"no PostgreSQL {place}: {problem}")


async def _connect(
    address: PostgresAddress, host: str | None, port: int | None, attributes: str | None
) -> _Connection:
    parameters = urlencode(address.driver, quote_via=quote)
    arguments: dict[str, Any] = {
        "dsn": f"postgresql://?{parameters}" if parameters else None,
        "host": host,
        "port": port,
        "user": address.user,
        "password": address.password,
        "database": address.dbname,
        "timeout": address.connect_seconds,
        "server_settings": {**address.server_settings, **SESSION},
        "target_session_attrs": attributes,
        "connection_class": _Connection,
    }
    connection: _Connection = await asyncpg.connect(**arguments)
    wire = connection.transport.get_extra_info("socket")
    if wire.family in {socket.AF_INET, socket.AF_INET6}:
        for option in address.socket_options:
            wire.setsockopt(*option)
    return connection
