"""The invariants between a campaign's rows and its own counters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from campaign_service.campaigns.model import Status
from campaign_service.campaigns.outcomes import Outcome, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The sender's counters, summed over all shards."""

    messages_sent: int
    channels_created: int
    targets_skipped: int
    targets_failed: int
    shards: int
    shards_unfinished: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignAudit:
    """Rows counted one by one, in one snapshot.

    `outcomes` counts the targets without a message, by outcome and reason. `channels` counts the
    channels with a message of the campaign.
    """

    status: Status
    targets_total: int
    messages: int
    targets_with_message: int
    outcomes: Mapping[tuple[str, str], int]
    targets_with_both: int
    counters: Counters
    orphaned_messages: int
    channels: int
    wrong_member_counts: int
    wrong_message_counts: int

    @property
    def skipped(self) -> int:
        return self._with(Outcome.SKIPPED)

    @property
    def failed(self) -> int:
        return self._with(Outcome.FAILED)

    def _with(self, outcome: Outcome) -> int:
        return sum(count for (found, _), count in self.outcomes.items() if found == outcome)


@dataclass(frozen=True, slots=True)
class Invariant:
    """An equation about a campaign, and whether it holds."""

    text: str
    holds: bool


def invariants(audit: CampaignAudit) -> Iterator[Invariant]:
    """Yields the invariants of any moment and, for a completed campaign, those of its end."""
    counters = audit.counters
    twice = audit.messages - audit.targets_with_message + audit.targets_with_both
    yield Invariant("messages = messages sent", audit.messages == counters.messages_sent)
    yield Invariant("skipped rows = targets skipped", audit.skipped == counters.targets_skipped)
    yield Invariant("failed rows = targets failed", audit.failed == counters.targets_failed)
    yield Invariant("no target has two outcomes", twice == 0)
    yield Invariant("every reason matches its outcome", all(map(_fits, audit.outcomes)))
    yield Invariant("every message is in an existing channel", audit.orphaned_messages == 0)
    yield Invariant("every channel counts its members", audit.wrong_member_counts == 0)
    yield Invariant("every channel counts its messages", audit.wrong_message_counts == 0)
    if audit.status is Status.COMPLETED:
        handled = audit.messages + audit.skipped + audit.failed
        yield Invariant(
            "targets total = messages + skipped + failed", audit.targets_total == handled
        )
        yield Invariant(
            "every shard is finished", counters.shards_unfinished == 0 < counters.shards
        )


def audit_lines(audit: CampaignAudit) -> Iterator[tuple[str, int | str]]:
    """Yields every count by its name."""
    yield "status", audit.status
    yield "targets total", audit.targets_total
    yield "messages", audit.messages
    yield "targets with a message", audit.targets_with_message
    for (outcome, reason), count in sorted(audit.outcomes.items()):
        yield f"{outcome}: {reason}", count
    yield "targets with a message and another outcome", audit.targets_with_both
    yield "counted: messages sent", audit.counters.messages_sent
    yield "counted: targets skipped", audit.counters.targets_skipped
    yield "counted: targets failed", audit.counters.targets_failed
    yield "counted: channels created", audit.counters.channels_created
    yield "shards", audit.counters.shards
    yield "shards unfinished", audit.counters.shards_unfinished
    yield "messages in no channel", audit.orphaned_messages
    yield "channels with a message", audit.channels
    yield "channels with a wrong member count", audit.wrong_member_counts
    yield "channels with a wrong message count", audit.wrong_message_counts


def _fits(row: tuple[str, str]) -> bool:
    outcome, reason = row
    return reason in set(Reason) and Reason(reason).outcome == outcome
