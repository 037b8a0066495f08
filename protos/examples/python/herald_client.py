"""How the examples reach the servers: addresses, CA and token come from the environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

CALL_SECONDS = 30.0

_OPTIONS = [
    # a server that is frozen is left after 8 s
    ("grpc.keepalive_time_ms", 4_000),
    ("grpc.http2.ping_timeout_ms", 4_000),
]


def open_channel(variable: str, default: str) -> grpc.Channel:
    """A channel to the address that the variable names, with TLS if HERALD_TLS_CA is set."""
    address = os.environ.get(variable, default)
    if ca := os.environ.get("HERALD_TLS_CA"):
        credentials = grpc.ssl_channel_credentials(Path(ca).read_bytes())
        return grpc.secure_channel(address, credentials, _OPTIONS)
    return grpc.insecure_channel(address, _OPTIONS)


def segment_channel() -> grpc.Channel:
    return open_channel("HERALD_SEGMENT_TARGET", "127.0.0.1:50051")


def campaign_channel() -> grpc.Channel:
    return open_channel("HERALD_CAMPAIGN_TARGET", "127.0.0.1:50052")


def bearer(token: str | None) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata of a call with this token."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def error_info(error: Any) -> tuple[str, Mapping[str, str]]:
    """The reason of an error and its metadata; nothing for gRPC's own errors."""
    status = rpc_status.from_call(error)
    info = ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return info.reason, dict(info.metadata)
    return "", {}
