"""Push notifications: which phones get one, and which do not for what reason."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from chat_store.models import Device, MemberDevices, PushProvider

_NAMESPACE = UUID("0b0f6d3c-3c4f-5f0e-8a55-4d1f8f3f2a6e")

SERVED = frozenset({PushProvider.APN, PushProvider.FIREBASE, PushProvider.HUAWEI})
"""The providers that a push gateway can reach."""

# a message of a campaign mentions nobody
# a tuple, because a malformed level may be a list, which a set could not be asked for
_LEVELS_WITHOUT_PLAIN_MESSAGES = ("none", "mentions", "direct_mentions", "all_mentions")


class PushOutcome(StrEnum):
    SENT = "sent"
    FAILED = "failed"
    SKIPPED = "skipped"


class PushReason(StrEnum):
    """Why a push was not sent."""

    NONE = ""
    EXPIRED = "expired"
    USER_INACTIVE = "user_inactive"
    MUTED = "muted"
    DEVICE_DISABLED = "device_disabled"
    PROVIDER_NOT_SERVED = "provider_not_served"
    REFUSED = "refused"
    UNREGISTERED = "unregistered"
    NO_ANSWER = "no_answer"


class PushResult(NamedTuple):
    outcome: PushOutcome
    reason: PushReason = PushReason.NONE

    @classmethod
    def skipped(cls, reason: PushReason) -> "PushResult":
        return cls(PushOutcome.SKIPPED, reason)


SENT = PushResult(PushOutcome.SENT)
NOT_SERVED = PushResult.skipped(PushReason.PROVIDER_NOT_SERVED)
EXPIRED = PushResult.skipped(PushReason.EXPIRED)
NO_ANSWER = PushResult(PushOutcome.FAILED, PushReason.NO_ANSWER)


@dataclass(frozen=True, slots=True)
class PushCounts:
    """The pushes of one campaign so far."""

    sent: int = 0
    failed: int = 0
    skipped: int = 0


def push_id(message_id: str, device_id: str) -> str:
    """The same for the same push; unlike the device's id it may stand in the gateway's log."""
    return str(uuid5(_NAMESPACE, f"{message_id} {device_id}"))


def phones(member: MemberDevices, now: datetime) -> Sequence[Device | PushResult]:
    """Returns, for each phone of the member, the device to push to, or why there is none."""
    refusal = _refusal(member, now)
    return [
        PushResult.skipped(refusal) if refusal else _device_of_phone(devices)
        for devices in _by_phone(member.devices)
    ]


def _refusal(member: MemberDevices, now: datetime) -> PushReason | None:
    if not member.is_active:
        return PushReason.USER_INACTIVE
    return PushReason.MUTED if is_muted(member.push_preferences, now) else None


def is_muted(preferences: Mapping[str, Any], now: datetime) -> bool:
    """Returns whether the user wants no push for a plain message. Malformed preferences want all."""
    if preferences.get("chat_level") in _LEVELS_WITHOUT_PLAIN_MESSAGES:
        return True
    until = _time(preferences.get("disabled_until"))
    return until is not None and now < until


def _by_phone(devices: Iterable[Device]) -> Iterable[Sequence[Device]]:
    found: dict[tuple[str, str], list[Device]] = {}
    for device in devices:
        phone = (device.hardware_id, "") if device.hardware_id else ("", device.id)
        found.setdefault(phone, []).append(device)
    return found.values()


def _device_of_phone(devices: Sequence[Device]) -> Device | PushResult:
    """The one that was registered last among those that can be pushed to."""
    enabled = [device for device in devices if not device.disabled]
    served = [device for device in enabled if device.push_provider in SERVED]
    if served:
        return max(served, key=lambda device: (device.created_at or _EVER, device.id))
    return NOT_SERVED if enabled else PushResult.skipped(PushReason.DEVICE_DISABLED)


_EVER = datetime.min.replace(tzinfo=UTC)


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
