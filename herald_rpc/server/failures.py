"""The status of a failed call: one canonical code, one reason, typed details."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TypeAlias

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

DOMAIN = "herald"

TRAILER_BYTES = 7 * 1024
"""Limit of a status in the trailers, of which gRPC clients accept 8 KiB in all."""

_METADATA_ENTRIES = 16

_UNESCAPED = frozenset(range(ord(" "), ord("~") + 1)) - {ord("%")}

# Longest text in bytes, and most violations of a kind. The last pair always fits.
_TRUNCATIONS = ((1_024, 20), (256, 20), (64, 20), (32, 5))


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that one field breaks. `field` is its path in the request."""

    field: str
    description: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Precondition:
    """A state that forbids the call: its kind, the resource, and what would be allowed."""

    type: str
    subject: str
    description: str


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource that is missing or exists already."""

    type: str
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """An exhausted limit, and its owner."""

    subject: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A refusal as its caller sees it. The message may change; `code` and `reason` may not.

    `metadata` repeats every dynamic part of `message`, so that no caller has to parse it.
    `retry_after` is when the same call may succeed; None means unknown.
    """

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: Sequence[Violation] = ()
    preconditions: Sequence[Precondition] = ()
    resource: Resource | None = None
    quota: Sequence[QuotaViolation] = ()
    retry_after: timedelta | None = None


FailureFor: TypeAlias = Callable[[Exception], Failure | None]
"""Maps a service's errors to failures, and unexpected errors to None."""


def to_status(failure: Failure) -> status_pb2.Status:
    """Packs a failure with its details, ErrorInfo first.

    Cuts texts and leaves out violations only as far as needed to keep the trailers within
    `TRAILER_BYTES`. A client refuses larger ones, and then has no details at all.
    """
    for text_bytes, most in _TRUNCATIONS:
        code: int = failure.code.value[0]
        status = status_pb2.Status(code=code, message=_truncated(failure.message, text_bytes))
        for detail in _details(failure, partial(_truncated, most_bytes=text_bytes), most):
            status.details.add().Pack(detail)
        if _trailer_bytes(status) <= TRAILER_BYTES:
            break
    return status


def _details(failure: Failure, truncate: Callable[[str], str], most: int) -> Iterator[Message]:
    metadata = islice(failure.metadata.items(), _METADATA_ENTRIES)
    yield details.ErrorInfo(
        reason=failure.reason,
        domain=DOMAIN,
        metadata={truncate(key): truncate(value) for key, value in metadata},
    )
    if failure.violations:
        yield details.BadRequest(
            field_violations=[
                details.BadRequest.FieldViolation(  # type: ignore[call-arg,unused-ignore]
                    field=truncate(violation.field),
                    description=truncate(violation.description),
                    reason=truncate(violation.reason),  # not in the stubs yet
                )
                for violation in failure.violations[:most]
            ]
        )
    if failure.preconditions:
        yield details.PreconditionFailure(
            violations=[
                details.PreconditionFailure.Violation(
                    type=truncate(precondition.type),
                    subject=truncate(precondition.subject),
                    description=truncate(precondition.description),
                )
                for precondition in failure.preconditions[:most]
            ]
        )
    if failure.resource:
        yield details.ResourceInfo(
            resource_type=truncate(failure.resource.type),
            resource_name=truncate(failure.resource.name),
            description=truncate(failure.resource.description),
        )
    if failure.quota:
        yield details.QuotaFailure(
            violations=[
                details.QuotaFailure.Violation(
                    subject=truncate(violation.subject), description=truncate(violation.description)
                )
                for violation in failure.quota[:most]
            ]
        )
    if failure.retry_after is not None:
        retry = details.RetryInfo()
        retry.retry_delay.FromTimedelta(failure.retry_after)
        yield retry


def _truncated(text: str, most_bytes: int) -> str:
    raw = text.encode("utf-8", "replace")
    if len(raw) <= most_bytes:
        return raw.decode()
    return raw[: most_bytes - len("…".encode())].decode("utf-8", "ignore") + "…"


def _trailer_bytes(status: status_pb2.Status) -> int:
    """Returns the bytes of the status as `grpc-message` and `grpc-status-details-bin`."""
    message = sum(1 if byte in _UNESCAPED else len("%00") for byte in status.message.encode())
    return message + len(base64.b64encode(status.SerializeToString()))
