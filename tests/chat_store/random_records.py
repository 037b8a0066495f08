"""Random users and channels to filter: few values, so that filters find something."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import Table

from chat_store.filters.matching import Record, channel_record, user_record
from chat_store.models import Channel, Member, User
from chat_store.sql.tables import channels, members, users

START = datetime(2026, 1, 31, 12, tzinfo=UTC)

# each is there for a way in which engines differ
WORDS = (
    *("", "a", "A", "b", "red", "Red Rover", "rover_curiosity", "1", "\x7f~", "n\nl", "\t"),
    *("é", "É", "e\u0301", "straße", "STRASSE", "ǅ", "\u017f", "İ", "\u212aelvin", "ﬁ"),
    *("ΣΊΣΥΦΟΣ", "σίσυφος", "नमस्ते", "😀 smile", "\ue000", "[1]", "{}", '"', "\\", "%_", "'"),
    *("٣", "Ⅳ", "\u200b", "true", "null", "2026-01-31T12:00:00Z"),
)
NUMBERS = (
    *(0, 1, -1, 2, 2.5, -0.0, 0.1, 0.1 + 0.2, 1e-7, 12.34, 1 / 3, 1.0000000000000002),
    *(2**53 - 1, 2**53 - 2, 1 - 2**53, 5e-324, -2.2250738585072014e-308, 9007199254740990.5),
)
KEYS = ("a", "b", "0", "$x", 'q"t', "b\\s", "n\nl", "é", "a[0]", " ")
_CUSTOM_KEYS = ("a", "a", "b", "b", "team", "0", 'q"t', "b\\s", "n\nl", "é")
_WRITTEN = (range(1, 0x80), range(0x80, 0x800), range(0x800, 0xD800), range(0xE000, 0x110000))
_EDGES_OF_TIME = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True)
class Population:
    """The rows of each table, and what the matcher sees of those to be found, by key."""

    rows: Mapping[Table, list[dict[str, Any]]]
    records: Mapping[str, Record]


def users_to_find(random: Random) -> Population:
    people = [_user(random, index) for index in range(random.randint(2, 6))]
    return Population(
        {users: _rows(people, users)}, {user.id: user_record(user) for user in people}
    )


def channels_to_find(random: Random) -> Population:
    people = [_user(random, index) for index in range(random.randint(1, 4))]
    found = [_channel(random, index) for index in range(random.randint(2, 5))]
    ids = [*(user.id for user in people), "nobody"]
    joined = {c.cid: random.sample(ids, random.randint(0, len(ids))) for c in found}
    membership = [
        Member(cid=cid, user_id=user_id, created_at=START)
        for cid, user_ids in joined.items()
        for user_id in user_ids
    ]
    names = {user.id: user.name for user in people}
    named = {
        cid: [name for user_id in user_ids if (name := names.get(user_id)) is not None]
        for cid, user_ids in joined.items()
    }
    return Population(
        {
            users: _rows(people, users),
            channels: _rows(found, channels),
            members: _rows(membership, members),
        },
        {c.cid: channel_record(c, joined[c.cid], named[c.cid]) for c in found},
    )


def text(random: Random) -> str:
    if random.random() < 0.8:
        return random.choice(WORDS)
    return "".join(chr(random.choice(random.choice(_WRITTEN))) for _ in range(random.randint(1, 5)))


def name(random: Random) -> str:
    return text(random) or "red"


def number(random: Random) -> float:
    if random.random() < 0.7:
        return random.choice(NUMBERS)
    return round(random.uniform(-100, 100), random.randint(0, 17))


def json(random: Random, depth: int = 2) -> Any:
    shape = random.random()
    if depth and shape < 0.2:
        return [json(random, depth - 1) for _ in range(random.randint(0, 3))]
    if depth and shape < 0.4:
        keys = random.sample(KEYS, random.randint(0, 3))
        return {key: json(random, depth - 1) for key in keys}
    scalars = (text(random), text(random), number(random), number(random), shape < 0.7, None)
    return random.choice(scalars)


def moment(random: Random) -> datetime:
    return START + timedelta(seconds=random.randint(-2, 2), microseconds=1)


def any_time(random: Random) -> datetime:
    return random.choice(_EDGES_OF_TIME) if random.random() < 0.1 else moment(random)


def _user(random: Random, index: int) -> User:
    return User(
        id=f"{name(random)}-{index}",
        name=random.choice((None, text(random), text(random))),
        username=random.choice((None, text(random))),
        email=random.choice((None, "", "anna@example.com", "Bert@Example.com")),
        role=random.choice(("user", "admin")),
        language=random.choice((None, "en", "de")),
        teams=_names(random),
        custom=_custom(random),
        banned=random.random() < 0.5,
        shadow_banned=random.random() < 0.5,
        created_at=any_time(random),
        updated_at=moment(random),
        last_active=random.choice((None, any_time(random))),
    )


def _channel(random: Random, index: int) -> Channel:
    return Channel(
        type=random.choice(("messaging", "team")),
        id=f"{random.choice('cC-')}{index}",
        name=random.choice((None, text(random), text(random))),
        team=random.choice((None, name(random))),
        created_by_id=random.choice((None, "a-0", "A-1")),
        custom=_custom(random),
        filter_tags=_names(random),
        frozen=random.random() < 0.5,
        disabled=random.random() < 0.5,
        distinct=random.random() < 0.5,
        member_count=random.randint(0, 3),
        message_count=random.choice((0, 1, 3, 2**53 - 1)),
        created_at=any_time(random),
        updated_at=moment(random),
        last_message_at=random.choice((None, any_time(random))),
    )


def _names(random: Random) -> tuple[str, ...]:
    return tuple(name(random) for _ in range(random.choice((0, 1, 1, 2, 3))))


def _custom(random: Random) -> dict[str, Any]:
    return {random.choice(_CUSTOM_KEYS): json(random) for _ in range(random.randint(0, 4))}


def _rows(records: Iterable[Any], table: Table) -> list[dict[str, Any]]:
    columns: Sequence[str] = [column.name for column in table.c]
    return [{column: getattr(record, column) for column in columns} for record in records]
