"""Converts devices between messages and the chat store's values."""

from chat_store.errors import InvalidInputError
from chat_store.ids import MAX_ID
from chat_store.models import Device, PushProvider
from herald.chat.v1 import chat_pb2 as pb
from herald_rpc.wire.fields import in_bounds, moment, required, text, timestamp

_PROVIDERS = {
    pb.PUSH_PROVIDER_FIREBASE: PushProvider.FIREBASE,
    pb.PUSH_PROVIDER_APN: PushProvider.APN,
    pb.PUSH_PROVIDER_HUAWEI: PushProvider.HUAWEI,
    pb.PUSH_PROVIDER_XIAOMI: PushProvider.XIAOMI,
}
_VALUES = {provider: value for value, provider in _PROVIDERS.items()}


def device_from_proto(message: pb.Device, field: str) -> Device:
    """Reads a device. Raises for the first field that breaks a rule."""
    device = Device(
        id=required(message.id, f"{field}.id", MAX_ID),
        user_id=required(message.user_id, f"{field}.user_id", MAX_ID),
        push_provider=_provider(message.push_provider, f"{field}.push_provider"),
        push_provider_name=text(message.push_provider_name, f"{field}.push_provider_name"),
        hardware_id=text(message.hardware_id, f"{field}.hardware_id", MAX_ID),
        created_at=moment(message, "created_at", f"{field}.created_at"),
    )
    return in_bounds(device, field)


def device_to_proto(device: Device) -> pb.Device:
    return pb.Device(
        id=device.id,
        user_id=device.user_id,
        push_provider=_VALUES[device.push_provider],
        push_provider_name=device.push_provider_name,
        hardware_id=device.hardware_id,
        disabled=device.disabled,
        disabled_reason=device.disabled_reason,
        created_at=timestamp(device.created_at),
    )


def _provider(value: pb.PushProvider.ValueType, field: str) -> PushProvider:
    if value == pb.PUSH_PROVIDER_UNSPECIFIED:
        raise InvalidInputError(field, "is required")
    provider = _PROVIDERS.get(value)
    if provider is None:
        raise InvalidInputError(field, f"unknown value {value}")
    return provider
