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
class CampaignRecount:
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


def invariants(recount: CampaignRecount) -> Iterator[Invariant]:
    """Yields the invariants of any moment and, for a completed campaign, those of its end."""
    counters = recount.counters
    twice = recount.messages - recount.targets_with_message + recount.targets_with_both
    yield Invariant("messages = messages sent", recount.messages == counters.messages_sent)
    yield Invariant("skipped rows = targets skipped", recount.skipped == counters.targets_skipped)
    yield Invariant("failed rows = targets failed", recount.failed == counters.targets_failed)
    yield Invariant("no target has two outcomes", twice == 0)
    yield Invariant("every reason matches its outcome", all(map(_fits, recount.outcomes)))
    yield Invariant("every message is in an existing channel", recount.orphaned_messages == 0)
    yield Invariant("every channel counts its members", recount.wrong_member_counts == 0)
    yield Invariant("every channel counts its messages", recount.wrong_message_counts == 0)
    if recount.status is Status.COMPLETED:
        handled = recount.messages + recount.skipped + recount.failed
        yield Invariant(
            "targets total = messages + skipped + failed", recount.targets_total == handled
        )
        yield Invariant(
            "every shard is finished", counters.shards_unfinished == 0 < counters.shards
        )


def recount_lines(recount: CampaignRecount) -> Iterator[tuple[str, int | str]]:
    """Yields every count by its name."""
    yield "status", recount.status
    yield "targets total", recount.targets_total
    yield "messages", recount.messages
    yield "targets with a message", recount.targets_with_message
    for (outcome, reason), count in sorted(recount.outcomes.items()):
        yield f"{outcome}: {reason}", count
    yield "targets with a message and another outcome", recount.targets_with_both
    yield "counted: messages sent", recount.counters.messages_sent
    yield "counted: targets skipped", recount.counters.targets_skipped
    yield "counted: targets failed", recount.counters.targets_failed
    yield "counted: channels created", recount.counters.channels_created
    yield "shards", recount.counters.shards
    yield "shards unfinished", recount.counters.shards_unfinished
    yield "messages in no channel", recount.orphaned_messages
    yield "channels with a message", recount.channels
    yield "channels with a wrong member count", recount.wrong_member_counts
    yield "channels with a wrong message count", recount.wrong_message_counts


def _fits(row: tuple[str, str]) -> bool:
    outcome, reason = row
    return reason in set(Reason) and Reason(reason).outcome == outcome
