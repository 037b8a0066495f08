"""Every error of the service has a code, and a reason that the contract knows."""

import grpc
import pytest

from campaign_service.api.failures import failure_for
from campaign_service.campaigns import errors
from campaign_service.campaigns.model import Status
from chat_store.errors import (
    InvalidFilterError,
    InvalidInputError,
    InvalidSortError,
    LimitExceededError,
    StoreUnavailableError,
)
from herald.campaign.v1 import error_reason_pb2
from herald_rpc.wire.queries import InvalidTokenError

REASONS = set(error_reason_pb2.ErrorReason.keys())
INVALID = grpc.StatusCode.INVALID_ARGUMENT
FAILED = grpc.StatusCode.FAILED_PRECONDITION
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

SAMPLES: list[tuple[Exception, grpc.StatusCode]] = [
    (errors.InvalidTemplateError("campaign.x", "problem"), INVALID),
    (errors.UnknownReferenceError("sender", {"campaign.sender_id": "x"}), INVALID),
    (errors.UnknownReferenceError("member", {"campaign.channel_template.members": "x"}), INVALID),
    (errors.UnknownReferenceError("segment", {"campaign.segment_ids": "x"}), INVALID),
    (errors.ReferenceGoneError("sender", "x"), FAILED),
    (errors.ReferenceGoneError("member", "x"), FAILED),
    (errors.ReferenceGoneError("segment", "x"), FAILED),
    (errors.CampaignNotFoundError("x"), grpc.StatusCode.NOT_FOUND),
    (errors.SenderNotAllowedError("x"), grpc.StatusCode.PERMISSION_DENIED),
    (errors.CampaignAlreadyExistsError("x"), grpc.StatusCode.ALREADY_EXISTS),
    (errors.CampaignDeletedError("x"), FAILED),
    (errors.StatusNotAllowedError("x", "start", Status.COMPLETED, [Status.DRAFT]), FAILED),
    (errors.DatabaseHeldError("restored", "held"), FAILED),
    (errors.EtagMismatchError("x", "3", "4"), grpc.StatusCode.ABORTED),
    (errors.QuotaExceededError("x", limit=2, used=1, given=2), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.SegmentServiceUnavailableError(), UNAVAILABLE),
    (errors.ShuttingDownError(), UNAVAILABLE),
    (InvalidInputError("id", "is required"), INVALID),
    (LimitExceededError("id", limit=1, given=2), INVALID),
    (InvalidFilterError("filter.x", "problem"), INVALID),
    (InvalidSortError("sort[0].field", "problem"), INVALID),
    (InvalidTokenError("page_token", "problem"), INVALID),
    (InvalidTokenError("resume_token", "problem"), INVALID),
    (StoreUnavailableError("disk full"), UNAVAILABLE),
]
# what passes between the senders never reaches a caller
INTERNAL = {errors.NobodySentToError, errors.RunEndedError, errors.QuotaReachedError}

# of EventService, whose package has reasons of its own: tests/events
OF_EVENTS = {errors.EventsExpiredError, errors.FutureOffsetError}


def all_errors(root: type[Exception] = errors.CampaignError) -> set[type[Exception]]:
    return {found for one in root.__subclasses__() for found in {one, *all_errors(one)}}


def test_every_error_of_the_service_is_among_the_samples() -> None:
    assert all_errors() - INTERNAL - OF_EVENTS <= {type(error) for error, _ in SAMPLES}


@pytest.mark.parametrize(("error", "code"), SAMPLES, ids=lambda value: repr(value)[:60])
def test_an_error_has_its_code_and_a_reason_of_the_contract(
    error: Exception, code: grpc.StatusCode
) -> None:
    failure = failure_for(error)

    assert failure is not None
    assert failure.code is code
    assert failure.reason in REASONS
    assert failure.message
    assert bool(failure.violations) is (code is INVALID)
    assert bool(failure.preconditions) is (code is FAILED)


@pytest.mark.parametrize("error", [ValueError("x"), errors.RunEndedError("x"), KeyError("x")])
def test_an_error_that_nobody_foresaw_is_not_mapped(error: Exception) -> None:
    assert failure_for(error) is None
