"""Who is in the database before a run, and what has to become of each of them."""

from collections.abc import Iterable
from datetime import UTC, datetime

from chat_store.database.engine import open_database
from chat_store.models import Channel, User, cid_of
from chat_store.sql.stores import sql_chat_store
from chat_store.store import ChannelDraft

SENDER_ID = "maria"
GROUPS = 10
# for users and rooms alike; asks for too much where the score is 0
TEXT = "Hi {{ receiver.name }}: {{ 60 // receiver.score if receiver.score else 'x' * 10 ** 9 }}"
ROOM_TEXT = "Hi {{ channel.name }}: {{ 60 // channel.score if channel.score else 'x' * 10 ** 9 }}"

_MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
_BATCH = 1_000
_DEACTIVATED, _DELETED, _ZERO = (41, 3), (43, 5), (37, 7)
_FROZEN_ROOM, _DELETED_ROOM = (29, 2), (31, 4)


def user_id(number: int) -> str:
    return f"user-{number:06}"


def room_cid(number: int) -> str:
    return cid_of("messaging", f"room-{number:06}")


def number_of(id_: str) -> int:
    """Of a user or a room that is there."""
    return int(id_.rpartition("-")[2]) if id_ != SENDER_ID else -1


def group_of(number: int) -> int:
    return number % GROUPS


def outcome_of_user(number: int) -> str:
    """In a channel that is made for it."""
    if _is(number, _DELETED):
        return "user_deleted"
    if _is(number, _DEACTIVATED):
        return "user_deactivated"
    return _rendered(number)


def outcome_of_roommate(number: int, rooms: int) -> str:
    """In the room that the user has with the sender, if there is one."""
    outcome = outcome_of_user(number)
    if outcome.startswith("user_"):
        return outcome
    return outcome_of_room(number) if number < rooms else "channel_not_found"


def outcome_of_room(number: int) -> str:
    if _is(number, _DELETED_ROOM):
        return "channel_not_found"
    if _is(number, _FROZEN_ROOM):
        return "channel_frozen"
    return _rendered(number)


def is_found(outcome: str) -> bool:
    """Whether a filter finds who has it."""
    return outcome not in {"user_deleted", "user_deactivated", "channel_not_found"}


async def populate(database_url: str, users: int, rooms: int) -> None:
    database = open_database(database_url)
    chat = sql_chat_store(database)
    sender = User(id=SENDER_ID, name="Maria", role="host", custom={"score": 1})
    await chat.users.upsert([sender], _MOMENT)
    for part in _batches(range(users)):
        await chat.users.upsert([_user(number) for number in part], _MOMENT)
        await chat.users.deactivate([user_id(n) for n in part if _is(n, _DEACTIVATED)], _MOMENT)
    for part in _batches(range(rooms)):
        await chat.channels.upsert([_room(number) for number in part], _MOMENT)
        await chat.channels.delete([room_cid(n) for n in part if _is(n, _DELETED_ROOM)], _MOMENT)
    # last: nobody enters a room who is deleted
    for part in _batches(range(users)):
        await chat.users.delete([user_id(n) for n in part if _is(n, _DELETED)], _MOMENT)
    await database.close()


def _user(number: int) -> User:
    return User(
        id=user_id(number),
        name=f"User {number}",
        custom={"group": group_of(number), "score": _score(number)},
        created_at=_MOMENT,
    )


def _room(number: int) -> ChannelDraft:
    channel_type, _, channel_id = room_cid(number).partition(":")
    channel = Channel(
        type=channel_type,
        id=channel_id,
        name=f"Room {number}",
        frozen=_is(number, _FROZEN_ROOM),
        custom={"group": group_of(number), "score": _score(number)},
        created_at=_MOMENT,
    )
    return ChannelDraft(channel, [SENDER_ID, user_id(number)])


def _score(number: int) -> int:
    return 0 if _is(number, _ZERO) else number % 5 + 1


def _rendered(number: int) -> str:
    return "template_error" if _is(number, _ZERO) else "sent"


def _is(number: int, one_of: tuple[int, int]) -> bool:
    divisor, rest = one_of
    return number % divisor == rest


def _batches(numbers: range) -> Iterable[range]:
    return (numbers[start : start + _BATCH] for start in range(0, len(numbers), _BATCH))
