"""Whom a campaign is for, in every way that there is, and what has to become of each of them."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.faults import dataset

# the database that every run finds
USERS, ROOMS = 4_000, 1_500

Way = Literal["list", "filter", "overlap", "everyone", "users", "rooms", "filtered-rooms"]
WAYS: tuple[Way, ...] = (
    "list",
    "filter",
    "overlap",
    "everyone",
    "users",
    "rooms",
    "filtered-rooms",
)
# made for the receiver, named by their members, or those that are there
Channels = Literal["made", "distinct", "rooms"]

_MOST_USER_IDS = 2_000
_LATE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """`late` are those of the `outcomes` that are still to be added to the list `one`."""

    way: Way
    channels: Channels
    outcomes: Mapping[str, str]
    listed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    filtered_groups: Sequence[int] = ()
    late: Sequence[str] = ()

    @property
    def is_rooms(self) -> bool:
        return self.way.endswith("rooms")


def everyone(users: int, channels: Channels) -> Audience:
    """All users, the sender among them."""
    numbers = [number for number in range(users) if _is_found("everyone", number)]
    outcomes = {dataset.user_id(number): _outcome(number, channels) for number in numbers}
    outcomes[dataset.SENDER_ID] = "channel_not_found" if channels == "rooms" else "sent"
    return Audience(way="everyone", channels=channels, outcomes=outcomes)


def drawn_audience(choose: random.Random, way: Way, *, grows: bool) -> Audience:
    channels: Channels = "made"
    if not way.endswith("rooms"):
        channels = choose.choice(("made", "made", "distinct", "rooms"))
    every, ghosts = _rooms() if way.endswith("rooms") else _users(channels)
    groups = sorted(choose.sample(range(dataset.GROUPS), k=choose.choice((4, 5))))
    found = {
        id_: outcome
        for number, (id_, outcome) in enumerate(every.items())
        if dataset.group_of(number) in groups and _is_found(way, number)
    }
    if way in {"filter", "filtered-rooms"}:
        return Audience(way=way, channels=channels, outcomes=found, filtered_groups=groups)
    if way == "everyone":
        return everyone(USERS, channels)
    some = choose.sample(sorted(every), k=choose.randint(1_000, min(2_000, len(every))))
    outcomes = {id_: every[id_] for id_ in some} | ghosts
    if way == "users":
        listed = {"": sorted(outcomes)[:_MOST_USER_IDS]}
        outcomes = {id_: outcomes[id_] for id_ in listed[""]}
        return Audience(way=way, channels=channels, outcomes=outcomes, listed=listed)
    late = choose.sample(sorted(outcomes), k=_LATE) if grows else []
    early = sorted(outcomes.keys() - set(late))
    if way != "overlap":
        return Audience(
            way=way, channels=channels, outcomes=outcomes, listed={"one": early}, late=late
        )
    return Audience(
        way=way,
        channels=channels,
        outcomes=outcomes | found,
        listed={"one": early[: len(early) * 2 // 3], "two": early[len(early) // 3 :]},
        filtered_groups=groups,
        late=[id_ for id_ in late if id_ not in found],
    )


def _rooms() -> tuple[dict[str, str], dict[str, str]]:
    """Every channel that was ever there, by number, and some that never were."""
    every = {dataset.room_cid(number): dataset.outcome_of_room(number) for number in range(ROOMS)}
    return every, {f"messaging:no-room-{number}": "channel_not_found" for number in range(5)}


def _users(channels: Channels) -> tuple[dict[str, str], dict[str, str]]:
    """Every user that was ever there, by number, and some that never were."""
    every = {dataset.user_id(number): _outcome(number, channels) for number in range(USERS)}
    # some sort before all users, some after
    ghosts = ("ghost-1", "ghost-2", "zombie-1", "zombie-2")
    return every, dict.fromkeys(ghosts, "user_not_found")


def _outcome(number: int, channels: Channels) -> str:
    if channels == "rooms":
        return dataset.outcome_of_roommate(number, ROOMS)
    return dataset.outcome_of_user(number)


def _is_found(way: Way, number: int) -> bool:
    if way.endswith("rooms"):
        return dataset.is_found(dataset.outcome_of_room(number))
    return dataset.is_found(dataset.outcome_of_user(number))
