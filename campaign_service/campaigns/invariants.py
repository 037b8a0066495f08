"""The conservation law: what must hold between a campaign's rows and what it says of itself."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from campaign_service.campaigns.model import Status
from campaign_service.campaigns.outcomes import Outcome, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What the sender has added up, over all shards."""

    messages_sent: int
    channels_created: int
    targets_skipped: int
    targets_failed: int
    shards: int
    shards_unfinished: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recount:
    """Rows counted one by one, all at one moment.

    `outcomes` are the targets without a message, by outcome and reason. `channels` are those that
    have a message of the campaign.
    """

    status: Status
    targets_total: int
    messages: int
    targets_with_message: int
    outcomes: Mapping[tuple[str, str], int]
    targets_with_both: int
    counters: Counters
    messages_astray: int
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
class Law:
    """A sentence about a campaign, and whether it is true."""

    text: str
    holds: bool


def laws(found: Recount) -> Iterator[Law]:
    """Those that hold at any moment, and for a completed campaign those of its end."""
    counters = found.counters
    twice = found.messages - found.targets_with_message + found.targets_with_both
    yield Law("messages = messages sent", found.messages == counters.messages_sent)
    yield Law("skipped rows = targets skipped", found.skipped == counters.targets_skipped)
    yield Law("failed rows = targets failed", found.failed == counters.targets_failed)
    yield Law("no target has two outcomes", twice == 0)
    yield Law("every reason is one of its outcome", all(map(_fits, found.outcomes)))
    yield Law("every message is in a channel that is there", found.messages_astray == 0)
    yield Law("every channel counts its members", found.wrong_member_counts == 0)
    yield Law("every channel counts its messages", found.wrong_message_counts == 0)
    if found.status is Status.COMPLETED:
        handled = found.messages + found.skipped + found.failed
        yield Law("targets total = messages + skipped + failed", found.targets_total == handled)
        yield Law("every shard is finished", counters.shards_unfinished == 0 < counters.shards)


def described(found: Recount) -> Iterator[tuple[str, int | str]]:
    """Every count by its name."""
    yield "status", found.status
    yield "targets total", found.targets_total
    yield "messages", found.messages
    yield "targets with a message", found.targets_with_message
    for (outcome, reason), count in sorted(found.outcomes.items()):
        yield f"{outcome}: {reason}", count
    yield "targets with a message and another outcome", found.targets_with_both
    yield "counted: messages sent", found.counters.messages_sent
    yield "counted: targets skipped", found.counters.targets_skipped
    yield "counted: targets failed", found.counters.targets_failed
    yield "counted: channels created", found.counters.channels_created
    yield "shards", found.counters.shards
    yield "shards unfinished", found.counters.shards_unfinished
    yield "messages in no channel", found.messages_astray
    yield "channels with a message", found.channels
    yield "channels with a wrong member count", found.wrong_member_counts
    yield "channels with a wrong message count", found.wrong_message_counts


def _fits(row: tuple[str, str]) -> bool:
    outcome, reason = row
    return reason in set(Reason) and Reason(reason).outcome == outcome
