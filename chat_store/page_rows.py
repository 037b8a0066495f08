"""The rows that one page of a campaign writes to the chat store, by column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chat_store.models import Member, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRows:
    """One page, planned against what the store held a moment ago.

    `channels` and `messages` map a column to its values. A value that all rows share is in
    `channel_constants` or `message_constants` instead. Every new channel gets the `fixed_members`
    and its row of `receivers` (columns `cid`, `user_id`). `messages_per_channel` counts the
    messages for channels that existed before. `sender_joins` are the channels that the sender
    enters. `unhidden` (`cid`, `user_id`) are the members who see a hidden channel again.
    """

    moment: datetime
    channels: Values = field(default_factory=dict)
    channel_constants: Mapping[str, Any] = field(default_factory=dict)
    fixed_members: Sequence[Member] = ()
    receivers: Values = field(default_factory=dict)
    messages: Values = field(default_factory=dict)
    message_constants: Mapping[str, Any] = field(default_factory=dict)
    messages_per_channel: Mapping[str, int] = field(default_factory=dict)
    sender_joins: Sequence[str] = ()
    sender_id: str = ""
    unhidden: Values = field(default_factory=dict)
