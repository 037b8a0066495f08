"""What one page of a campaign writes to the chat store, column-wise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chat_store.models import Member, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRows:
    """One page, planned against what the store held a moment ago.

    `channels` and `messages` map a column to its values or, when every row has the same, to one
    constant in `channel_constants` and `message_constants`. Every new channel gets the
    `fixed_members` and its row of `receivers` (columns `cid`, `user_id`). `messages_per_channel` counts the
    messages of channels that were there before; `sender_joins` are those that the sender enters, and
    `unhidden` (`cid`, `user_id`) is who sees the channel again.
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
