"""The service's errors, in the domain's words. `api/failures.py` maps each to code and reason."""

from collections.abc import Mapping, Sequence

from chat_store.errors import InvalidInputError

_LISTED = 5
_LONGEST_EXPLANATION = 300


class CampaignError(Exception):
    """Root of the service's own errors."""


class InvalidTemplateError(CampaignError, InvalidInputError):
    """A template is invalid, at the field that holds it."""


class UnknownReferenceError(CampaignError, InvalidInputError):
    """A campaign to write names senders, members or segments that do not exist.

    `missing` maps the field to the id of each; all are of one kind.
    """

    def __init__(self, kind: str, missing: Mapping[str, str]) -> None:
        super().__init__(next(iter(missing)), f"no {kind} {_listed(list(missing.values()))}")
        self.kind = kind
        self.missing = missing


class ReferenceGoneError(CampaignError):
    """The campaign's sender, members or segments are missing, or can't be used any more."""

    def __init__(self, kind: str, *ids: str, problem: str = "is not available") -> None:
        super().__init__(f"{kind} {_listed(ids)} {problem}")
        self.kind = kind
        self.ids = ids


class CampaignNotFoundError(CampaignError):
    def __init__(self, campaign_id: str) -> None:
        super().__init__(f"no campaign {campaign_id!r}")
        self.campaign_id = campaign_id


class SenderNotAllowedError(CampaignError):
    """The caller's token is not for the campaign's sender."""

    def __init__(self, sender_id: str) -> None:
        super().__init__(f"the caller may not write or start campaigns of {sender_id!r}")
        self.sender_id = sender_id


class CampaignAlreadyExistsError(CampaignError):
    def __init__(self, campaign_id: str) -> None:
        super().__init__(f"campaign {campaign_id!r} exists with other content")
        self.campaign_id = campaign_id


class CampaignDeletedError(CampaignError):
    def __init__(self, campaign_id: str) -> None:
        super().__init__(f"campaign {campaign_id!r} is deleted")
        self.campaign_id = campaign_id


class StatusNotAllowedError(CampaignError):
    """The campaign's status does not allow the action."""

    def __init__(self, campaign_id: str, action: str, status: str, allowed: Sequence[str]) -> None:
        super().__init__(
            f"campaign {campaign_id!r} is {status}; {action} is allowed in {', '.join(allowed)}"
        )
        self.campaign_id = campaign_id
        self.action = action
        self.status = status
        self.allowed = allowed


class EtagMismatchError(CampaignError):
    """The campaign has changed since the caller read it. Nothing was written."""

    def __init__(self, campaign_id: str, given: str, current: str) -> None:
        super().__init__(f"campaign {campaign_id!r} has changed since etag {given!r} was read")
        self.campaign_id = campaign_id
        self.given = given
        self.current = current


class QuotaExceededError(CampaignError):
    """The audience is larger than the rest of the monthly quota."""

    def __init__(self, campaign_id: str, *, limit: int, used: int, given: int) -> None:
        super().__init__(
            f"campaign {campaign_id!r} has {given} targets left to send; "
            f"{max(0, limit - used)} of {limit} messages are left this month"
        )
        self.campaign_id = campaign_id
        self.limit = limit
        self.used = used
        self.given = given


class QuotaReachedError(CampaignError):
    """A page of a running campaign would pass the monthly quota, and is not written."""

    def __init__(self, campaign_id: str, month: str, *, limit: int, used: int, given: int) -> None:
        super().__init__(
            f"the monthly quota would be exceeded: {used} of {limit} messages are used in {month}, "
            f"and the next page has {given}"
        )
        self.campaign_id = campaign_id
        self.month = month
        self.limit = limit
        self.used = used
        self.given = given


class NobodySentToError(CampaignError):
    """No target of a page would get a message, most would fail, and nothing has been sent yet.

    The page is not written, so that its targets get no outcome and can still be sent to.
    """

    def __init__(self, campaign_id: str, target_id: str, reason: str, explanation: str) -> None:
        because = f" ({explanation[:_LONGEST_EXPLANATION]})" if explanation else ""
        super().__init__(
            f"nothing is sent yet, and every target would fail: {target_id!r} with {reason}{because}"
        )
        self.campaign_id = campaign_id


class DatabaseHeldError(CampaignError):
    """The database is held: nothing starts until an operator has decided about its campaigns."""

    def __init__(self, because: str, explanation: str) -> None:
        super().__init__(f"nothing can be started: {explanation}")
        self.because = because


class RunEndedError(CampaignError):
    """The sender must not go on: the campaign has stopped, or another sender has the shard."""

    def __init__(self, campaign_id: str) -> None:
        super().__init__(f"the run of {campaign_id!r} has ended for this sender")
        self.campaign_id = campaign_id


class SegmentServiceUnavailableError(CampaignError):
    """The segment service is unreachable. Nothing was changed; a retry may succeed."""

    def __init__(self) -> None:
        super().__init__("the segment service can't be reached")


class EventsExpiredError(CampaignError):
    """Events after the offset have been deleted, because they were older than the retention."""

    def __init__(self) -> None:
        super().__init__("events after this token have been deleted: begin without one")


class FutureOffsetError(CampaignError):
    """The offset is after the end of the log: it is of another database."""

    def __init__(self) -> None:
        super().__init__("is of no event of this database")


class ShuttingDownError(CampaignError):
    """The server is about to stop; a stream can be resumed elsewhere from its last token."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down")


def _listed(ids: Sequence[str]) -> str:
    """Lists the first few ids, for people."""
    more = f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else ""
    return ", ".join(map(repr, ids[:_LISTED])) + more
