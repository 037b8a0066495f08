"""What a campaign can't do, in the domain's words. `status.py` gives each its code and reason."""

from collections.abc import Sequence

from chat_store.errors import InvalidInputError


class CampaignError(Exception):
    """Root of the service's own errors."""


class InvalidTemplateError(CampaignError, InvalidInputError):
    """A template that can't be used, at the field that holds it."""


class UnknownReferenceError(CampaignError, InvalidInputError):
    """A sender, member or segment that does not exist, found while a campaign is written."""

    def __init__(self, field: str, kind: str, id_: str) -> None:
        super().__init__(field, f"no {kind} {id_!r}")
        self.kind = kind
        self.id = id_


class ReferenceGoneError(CampaignError):
    """A sender, member or segment that is not there (any more) when the campaign starts."""

    def __init__(self, kind: str, id_: str) -> None:
        super().__init__(f"{kind} {id_!r} is not there")
        self.kind = kind
        self.id = id_


class CampaignNotFoundError(CampaignError):
    def __init__(self, campaign_id: str) -> None:
        super().__init__(f"no campaign {campaign_id!r}")
        self.campaign_id = campaign_id


class CampaignAlreadyExistsError(CampaignError):
    def __init__(self, campaign_id: str) -> None:
        super().__init__(f"campaign {campaign_id!r} exists with other content")
        self.campaign_id = campaign_id


class CampaignDeletedError(CampaignError):
    def __init__(self, campaign_id: str) -> None:
        super().__init__(f"campaign {campaign_id!r} is deleted")
        self.campaign_id = campaign_id


class StatusNotAllowedError(CampaignError):
    """The action is not open to a campaign in this status."""

    def __init__(self, campaign_id: str, action: str, status: str, allowed: Sequence[str]) -> None:
        super().__init__(
            f"campaign {campaign_id!r} is {status}; {action} is open to {', '.join(allowed)}"
        )
        self.campaign_id = campaign_id
        self.action = action
        self.status = status
        self.allowed = allowed


class RunEndedError(CampaignError):
    """The sender may not go on: the campaign stopped, or another sender has the shard."""

    def __init__(self, campaign_id: str) -> None:
        super().__init__(f"the run of {campaign_id!r} is over for this sender")
        self.campaign_id = campaign_id


class SegmentServiceUnavailableError(CampaignError):
    """The segment service can't be reached; nothing was changed; try again later."""

    def __init__(self) -> None:
        super().__init__("the segment service can't be reached")
