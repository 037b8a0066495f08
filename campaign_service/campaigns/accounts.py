"""Compares the counters of a campaign with the rows that they count."""

from collections.abc import Mapping
from dataclasses import dataclass

from campaign_service.campaigns.model import Status
from campaign_service.campaigns.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Account:
    """Both numbers of targets by outcome, read at one moment."""

    campaign_id: str
    status: Status
    targets_total: int
    counted: Mapping[Outcome, int]
    rows: Mapping[Outcome, int]

    @property
    def unaccounted_targets(self) -> int:
        """How many targets the counters have too many or too few; 0 at any moment.

        A completed campaign also has as many targets as outcomes.
        """
        wrong = sum(abs(self.counted[outcome] - self.rows[outcome]) for outcome in Outcome)
        if self.status is Status.COMPLETED:
            wrong = max(wrong, abs(self.targets_total - sum(self.rows.values())))
        return wrong
