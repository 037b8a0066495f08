"""The service's errors, in the domain's words. `failures.py` maps each to its gRPC code."""

from chat_store.errors import InvalidInputError


class SegmentError(Exception):
    """Root of the service's own errors."""


class SegmentNotFoundError(SegmentError):
    def __init__(self, segment_id: str) -> None:
        super().__init__(f"no segment {segment_id!r}")
        self.segment_id = segment_id


class SegmentAlreadyExistsError(SegmentError):
    """The id belongs to a segment with other content, or to a deleted one."""

    def __init__(self, segment_id: str) -> None:
        super().__init__(f"segment {segment_id!r} exists with other content, or was deleted")
        self.segment_id = segment_id


class SegmentDeletedError(SegmentError):
    def __init__(self, segment_id: str) -> None:
        super().__init__(f"segment {segment_id!r} is deleted")
        self.segment_id = segment_id


class SegmentFilterRefusedError(SegmentError):
    """The stored filter was allowed once but is not any more, so it is not evaluated."""

    def __init__(self, segment_id: str, field: str, problem: str) -> None:
        super().__init__(f"the filter of segment {segment_id!r} is refused: {field}: {problem}")
        self.segment_id = segment_id
        self.field = field
        self.problem = problem


class SegmentHasDefinitionError(SegmentError):
    """The call is only for segments that list their targets, and this one has a definition."""

    def __init__(self, segment_id: str, definition: str) -> None:
        super().__init__(
            f"segment {segment_id!r} has a definition, {definition}, and does not list targets"
        )
        self.segment_id = segment_id
        self.definition = definition


class SenderRequiredError(SegmentError, InvalidInputError):
    """The segment means the channels of a sender, and no sender was given."""

    def __init__(self, segment_id: str) -> None:
        super().__init__("sender_id", f"is required by segment {segment_id!r}")
        self.segment_id = segment_id


class SegmentTypesMixedError(SegmentError, InvalidInputError):
    """Some of the given segments hold users and others channels."""

    def __init__(self, segment_id: str) -> None:
        super().__init__(
            "segment_ids", f"segment {segment_id!r} has another type than the first segment"
        )
        self.segment_id = segment_id


class ShuttingDownError(SegmentError):
    """The server is about to stop; a stream can be resumed elsewhere from its last token."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down")
