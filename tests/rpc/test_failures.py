"""A failure reaches its caller whole: code, reason, details, and small enough to arrive."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc_status import rpc_status
from hypothesis import example, given, settings
from hypothesis import strategies as st

from herald_rpc.server.failures import (
    DOMAIN,
    TRAILER_BYTES,
    Failure,
    Precondition,
    QuotaViolation,
    Resource,
    Violation,
    to_status,
)
from tests.rpc import raw_service
from tests.rpc.raw_service import RefusedError, running, status_in

_Detail = TypeVar("_Detail", bound=Message)


def unpacked(status: status_pb2.Status, kind: type[_Detail]) -> _Detail:
    message = kind()
    (found,) = [
        detail for detail in status.details if detail.TypeName() == message.DESCRIPTOR.full_name
    ]
    assert found.Unpack(message)
    return message


async def status_of(failure: Failure) -> status_pb2.Status:
    """What a client gets when a method fails so."""

    async def fail(_request: bytes, _context: Any) -> bytes:
        raise RefusedError(failure)

    async with running({"Fail": raw_service.unary(fail)}) as service:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await service.unary("Fail")(b"")
    assert raised.value.code() is failure.code
    return status_in(raised.value)


CANONICAL: list[tuple[Failure, Message | None]] = [
    (
        Failure(
            code=grpc.StatusCode.INVALID_ARGUMENT,
            reason="ERROR_REASON_FILTER_INVALID",
            message="unknown operator $near",
            metadata={"field": "filter.$and[1].age.$near"},
            violations=[Violation("filter.$and[1].age.$near", "unknown operator", "UNKNOWN")],
        ),
        details.BadRequest(
            field_violations=[
                {
                    "field": "filter.$and[1].age.$near",
                    "description": "unknown operator",
                    "reason": "UNKNOWN",
                }
            ]
        ),
    ),
    (
        Failure(
            code=grpc.StatusCode.NOT_FOUND,
            reason="ERROR_REASON_SEGMENT_NOT_FOUND",
            message="no segment s1",
            metadata={"segment_id": "s1"},
            resource=Resource("segment", "s1", "never created"),
        ),
        details.ResourceInfo(
            resource_type="segment", resource_name="s1", description="never created"
        ),
    ),
    (
        Failure(
            code=grpc.StatusCode.ALREADY_EXISTS,
            reason="ERROR_REASON_SEGMENT_ALREADY_EXISTS",
            message="segment s1 has other content",
            resource=Resource("segment", "s1"),
        ),
        details.ResourceInfo(resource_type="segment", resource_name="s1"),
    ),
    (
        Failure(
            code=grpc.StatusCode.FAILED_PRECONDITION,
            reason="ERROR_REASON_CAMPAIGN_STATUS",
            message="campaign c1 is DRAFT",
            metadata={"status": "DRAFT", "allowed": "IN_PROGRESS"},
            preconditions=[Precondition("STATUS", "campaigns/c1", "DRAFT, not IN_PROGRESS")],
        ),
        details.PreconditionFailure(
            violations=[
                details.PreconditionFailure.Violation(
                    type="STATUS", subject="campaigns/c1", description="DRAFT, not IN_PROGRESS"
                )
            ]
        ),
    ),
    (
        Failure(
            code=grpc.StatusCode.RESOURCE_EXHAUSTED,
            reason="ERROR_REASON_MESSAGE_QUOTA",
            message="the month's messages are used up",
            quota=[QuotaViolation("messages", "1000 a month")],
        ),
        details.QuotaFailure(
            violations=[
                details.QuotaFailure.Violation(subject="messages", description="1000 a month")
            ]
        ),
    ),
    (
        Failure(
            code=grpc.StatusCode.UNAVAILABLE,
            reason="ERROR_REASON_DEPENDENCY_DOWN",
            message="the database does not answer",
            retry_after=timedelta(seconds=1.5),
        ),
        details.RetryInfo(retry_delay={"seconds": 1, "nanos": 500_000_000}),
    ),
    (
        Failure(
            code=grpc.StatusCode.ABORTED,
            reason="ERROR_REASON_ETAG_MISMATCH",
            message="campaign c1 — changed meanwhile",
            metadata={"etag": "7"},
        ),
        None,
    ),
    (
        Failure(
            code=grpc.StatusCode.DEADLINE_EXCEEDED,
            reason="ERROR_REASON_DEADLINE",
            message="too late",
        ),
        None,
    ),
]


@pytest.mark.parametrize(
    ("failure", "detail"), CANONICAL, ids=[failure.code.name for failure, _ in CANONICAL]
)
async def test_a_caller_gets_the_code_the_reason_and_the_details(
    failure: Failure, detail: Message | None
) -> None:
    status = await status_of(failure)

    assert status.message == failure.message
    assert unpacked(status, details.ErrorInfo) == details.ErrorInfo(
        reason=failure.reason, domain=DOMAIN, metadata=failure.metadata
    )
    if detail is None:
        assert len(status.details) == 1
    else:
        assert len(status.details) == 2
        assert unpacked(status, type(detail)) == detail


async def test_a_failure_too_large_for_the_trailers_still_arrives_with_its_reason() -> None:
    status = await status_of(
        Failure(
            code=grpc.StatusCode.INVALID_ARGUMENT,
            reason="ERROR_REASON_INVALID",
            message="ü" * 50_000,
            metadata={f"key{number}": "v" * 50_000 for number in range(100)},
            violations=[Violation(f"f{number}", "ü" * 50_000) for number in range(100)],
        )
    )

    assert unpacked(status, details.ErrorInfo).reason == "ERROR_REASON_INVALID"
    assert unpacked(status, details.BadRequest).field_violations[0].field == "f0"


def test_texts_are_cut_no_further_than_needed() -> None:
    failure = Failure(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="ERROR_REASON_INVALID",
        message="m",
        metadata={"value": "v" * 3_000},
        violations=[Violation(f"target_ids[{number}]", "is empty") for number in range(100)],
    )

    status = to_status(failure)

    assert len(unpacked(status, details.ErrorInfo).metadata["value"].encode()) == 1_024
    assert [
        violation.field for violation in unpacked(status, details.BadRequest).field_violations
    ] == [f"target_ids[{number}]" for number in range(20)]


def lists_of(make: Callable[..., Any], *texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.lists(st.builds(make, *texts), max_size=30)


LONG = st.builds(lambda text, times: text * times, st.text(max_size=8), st.integers(0, 3_000))

FAILURES = st.builds(
    Failure,
    code=st.sampled_from([code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]),
    reason=st.just("ERROR_REASON_" + "X" * 50),
    message=LONG,
    metadata=st.dictionaries(LONG, LONG, max_size=30),
    violations=lists_of(Violation, LONG, LONG, LONG),
    preconditions=lists_of(Precondition, LONG, LONG, LONG),
    resource=st.none() | st.builds(Resource, LONG, LONG, LONG),
    quota=lists_of(QuotaViolation, LONG, LONG),
    retry_after=st.none() | st.timedeltas(timedelta(0), timedelta(days=1)),
)


LONGEST = "😀" * 10_000

EVERYTHING_TOO_LONG = Failure(
    code=grpc.StatusCode.INVALID_ARGUMENT,
    reason="ERROR_REASON_" + "X" * 50,
    message=LONGEST,
    metadata={f"{number}{LONGEST}": LONGEST for number in range(1_000)},
    violations=[Violation(LONGEST, LONGEST, LONGEST)] * 100,
    preconditions=[Precondition(LONGEST, LONGEST, LONGEST)] * 100,
    resource=Resource(LONGEST, LONGEST, LONGEST),
    quota=[QuotaViolation(LONGEST, LONGEST)] * 100,
    retry_after=timedelta(days=1),
)

MESSAGE_THAT_GROWS_BY_ESCAPING = Failure(
    code=grpc.StatusCode.INVALID_ARGUMENT,
    reason="ERROR_REASON_INVALID",
    message="ü" * 500,
    metadata={str(number): "v" * 1_000 for number in range(3)},
)


@settings(deadline=None)
@given(FAILURES)
@example(EVERYTHING_TOO_LONG)
@example(MESSAGE_THAT_GROWS_BY_ESCAPING)
def test_whatever_a_failure_holds_its_trailers_stay_small(failure: Failure) -> None:
    parts = rpc_status.to_status(to_status(failure))
    ((_, packed),) = parts.trailing_metadata

    escaped = quote(parts.details, safe="".join(map(chr, range(0x20, 0x7F))).replace("%", ""))
    assert len(escaped) + len(packed) * 4 / 3 <= TRAILER_BYTES
    assert unpacked(to_status(failure), details.ErrorInfo).reason == failure.reason
