"""Converts users between messages and the chat store's values."""

from chat_store.distinct_channels import user_id_problem
from chat_store.ids import MAX_ID
from chat_store.models import User
from herald.chat.v1 import chat_pb2 as pb
from herald_rpc.wire.fields import in_bounds, moment, refuse, required, small, text, timestamp
from herald_rpc.wire.structs import json_object, to_struct


def user_from_proto(message: pb.User, field: str) -> User:
    """Reads a user. Raises for the first field that breaks a rule; skips output-only fields."""
    id_ = required(message.id, f"{field}.id", MAX_ID)
    refuse(user_id_problem(id_), f"{field}.id")
    user = User(
        id=id_,
        name=text(message.name, f"{field}.name") or None,
        username=text(message.username, f"{field}.username") or None,
        email=text(message.email, f"{field}.email") or None,
        role=text(message.role, f"{field}.role") or "user",
        language=text(message.language, f"{field}.language") or None,
        image=text(message.image, f"{field}.image") or None,
        teams=tuple(required(t, f"{field}.teams[{i}]") for i, t in enumerate(message.teams)),
        custom=small(json_object(message.custom, f"{field}.custom"), f"{field}.custom"),
        banned=message.banned,
        shadow_banned=message.shadow_banned,
        push_preferences=small(
            json_object(message.push_preferences, f"{field}.push_preferences"),
            f"{field}.push_preferences",
        ),
        created_at=moment(message, "created_at", f"{field}.created_at"),
    )
    return in_bounds(user, field)


def user_to_proto(user: User) -> pb.User:
    return pb.User(
        id=user.id,
        name=user.name or "",
        username=user.username or "",
        email=user.email or "",
        role=user.role,
        language=user.language or "",
        image=user.image or "",
        teams=user.teams,
        custom=to_struct(user.custom),
        banned=user.banned,
        shadow_banned=user.shadow_banned,
        push_preferences=to_struct(user.push_preferences),
        created_at=timestamp(user.created_at),
        updated_at=timestamp(user.updated_at),
        last_active=timestamp(user.last_active),
        deactivated_at=timestamp(user.deactivated_at),
        deleted_at=timestamp(user.deleted_at),
    )
