"""Connections to PostgreSQL: to the first host that takes one, in a session set as we need it."""

import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg

from chat_store.database.postgres.urls import PostgresAddress
from chat_store.errors import InvalidDatabaseUrlError

SESSION: Mapping[str, str] = {
    # a plan for any keys, made while a table was empty, would read all of it for each when it is
    # large
    "plan_cache_mode": "force_custom_plan",
    # A role or a database may set others. With them, the same statement would answer otherwise.
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
"""Not among them: whether transactions are read-only, and time-outs. Operators mean those."""

_OTHER_HOSTS_MAY_DO = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)


class _Connection(asyncpg.Connection):
    """Keeps its transport, whose socket has options to be set."""

    __slots__ = ("transport",)

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        self.transport = transport


async def connect(address: PostgresAddress) -> _Connection:
    """Raises the last host's error, or `InvalidDatabaseUrlError` for parameters that contradict.

    The driver's own way through several hosts has one time-out for all of them, so that a first
    one that is silent would keep it from the others.
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
            except _OTHER_HOSTS_MAY_DO as error:
                failure = error
    raise failure or ConnectionError("there is no host")


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
