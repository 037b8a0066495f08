"""Every error of the service has a status, with the details that its code promises."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from chat_store.errors import StoreUnavailableError
from herald.segment.v1.error_reason_pb2 import ErrorReason
from segment_service import errors
from segment_service.failures import failure_for
from tests.segment.refusals import CODES

DETAILS = {
    CODES.INVALID_ARGUMENT: "violations",
    CODES.FAILED_PRECONDITION: "preconditions",
    CODES.NOT_FOUND: "resource",
    CODES.ALREADY_EXISTS: "resource",
}


def subclasses(of: type[errors.SegmentError]) -> Iterator[type[errors.SegmentError]]:
    for subclass in of.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


ALL = {error.__name__: error for error in subclasses(errors.SegmentError)}


@pytest.mark.parametrize("error", ALL.values(), ids=ALL)
def test_every_error_is_a_status_with_a_reason_of_the_package(error: Any) -> None:
    arguments = {name: f"some {name}" for name in inspect.signature(error).parameters}

    failure = failure_for(error(**arguments))

    assert failure is not None
    assert failure.reason in ErrorReason.keys()  # noqa: SIM118 - no dictionary
    assert failure.code in {*DETAILS, CODES.UNAVAILABLE}
    assert failure.metadata.items() >= arguments.items()
    if detail := DETAILS.get(failure.code):
        assert getattr(failure, detail)


def test_the_walk_finds_errors() -> None:
    assert len(ALL) >= 7


def test_a_database_that_is_away_is_unavailable_and_its_words_stay_inside() -> None:
    failure = failure_for(StoreUnavailableError("password of postgres at 10.0.0.1"))

    assert failure is not None
    assert (failure.code, failure.reason) == (CODES.UNAVAILABLE, "ERROR_REASON_UNAVAILABLE")
    assert "10.0.0.1" not in failure.message


def test_what_nobody_foresaw_has_no_status_of_its_own() -> None:
    assert failure_for(ZeroDivisionError()) is None
