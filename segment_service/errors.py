"""What can't be done with a segment, in the domain's words. `status.py` has each one's code."""

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
    """The segment was stored when its filter was still allowed, and is not evaluated any more."""

    def __init__(self, segment_id: str, field: str, problem: str) -> None:
        super().__init__(f"the filter of segment {segment_id!r} is refused: {field}: {problem}")
        self.segment_id = segment_id
        self.field = field
        self.problem = problem


class SegmentHasDefinitionError(SegmentError):
    """Only segments without a definition list their targets."""

    def __init__(self, segment_id: str, definition: str) -> None:
        super().__init__(f"segment {segment_id!r} has a definition, {definition}, and no list")
        self.segment_id = segment_id
        self.definition = definition


class SenderRequiredError(SegmentError, InvalidInputError):
    """The segment means the channels of a sender, and there is none."""

    def __init__(self, segment_id: str) -> None:
        super().__init__("sender_id", f"is required by segment {segment_id!r}")
        self.segment_id = segment_id


class SegmentTypesMixedError(SegmentError, InvalidInputError):
    """Of these segments, some have users and others channels."""

    def __init__(self, segment_id: str) -> None:
        super().__init__("segment_ids", f"segment {segment_id!r} is not of the first one's type")
        self.segment_id = segment_id


class ShuttingDownError(SegmentError):
    """The server is about to end, and a stream with it: go on elsewhere with the last token."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down")
