"""Pushes as requests to the gateway: what a notification shows, and which go together."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from campaign_service.campaigns.events import EventType
from campaign_service.campaigns.pushes import push_id
from campaign_service.events.push_gateway import MOST_NOTIFICATIONS, Notification
from chat_store.models import Device, Message

# providers refuse payloads of more than 4 KiB
_MOST_TITLE = 100
_MOST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Push:
    """A notification of a campaign, which may be sent until `expires_at`."""

    campaign_id: str
    expires_at: datetime
    notification: Notification


def batches(pushes: Sequence[Push]) -> Iterator[Sequence[Push]]:
    """Yields requests, each for one provider, so that a provider that is not served shows."""
    by_provider: dict[str, list[Push]] = defaultdict(list)
    for push in pushes:
        by_provider[push.notification.provider].append(push)
    for of_one in by_provider.values():
        for begin in range(0, len(of_one), MOST_NOTIFICATIONS):
            yield of_one[begin : begin + MOST_NOTIFICATIONS]


def notification(
    message: Message, user_id: str, device: Device, titles: Mapping[str, str]
) -> Notification:
    channel_type, _, channel_id = message.cid.partition(":")
    return Notification(
        id=push_id(message.id, device.id),
        provider=device.push_provider,
        token=device.id,
        title=_cut(titles.get(message.user_id, message.user_id), _MOST_TITLE),
        text=_cut(message.text, _MOST_TEXT),
        data={
            "type": EventType.MESSAGE_NEW,
            "id": message.id,
            "cid": message.cid,
            "channel_type": channel_type,
            "channel_id": channel_id,
            "campaign_id": message.campaign_id or "",
            "receiver_id": user_id,
        },
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
