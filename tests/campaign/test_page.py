"""What one page of targets becomes: who gets what, and where; nothing is written."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_service.campaigns.errors import ReferenceGoneError
from campaign_service.campaigns.ids import derived_channel_id, message_id, message_id_prefix
from campaign_service.campaigns.model import Campaign, MemberTemplate, SenderMode, SenderVisibility
from campaign_service.campaigns.outcomes import NotSent, Outcome, Reason
from campaign_service.planning import planner as planning
from campaign_service.planning.page import PlannedPage
from campaign_service.planning.planner import Planner
from chat_store.distinct_channels import distinct_channel_id
from chat_store.models import (
    Channel,
    ChannelState,
    PickedChannel,
    PickedUser,
    User,
    UserState,
)
from chat_store.page_rows import PageRows
from chat_store.store import ChatStore
from tests.campaign.builders import (
    MOMENT,
    SENDER_ID,
    a_campaign,
    a_channel,
    a_channel_template,
    a_compiled_campaign,
    a_message_template,
    a_spec,
    a_user,
)

SENDER = a_user(SENDER_ID)
ANN = a_user("ann", custom={"country": "France"})
BOB = a_user("bob", custom={"country": "USA"})


@dataclass(frozen=True)
class World:
    """A chat store that only answers; `between` is by receiver, with the sender."""

    people: Sequence[User] = (SENDER, ANN, BOB)
    stored: Sequence[Channel] = ()
    direct: Mapping[str, str] = field(default_factory=dict)
    strangers: frozenset[str] = frozenset()

    @property
    def users(self) -> "World":
        return self

    @property
    def channels(self) -> "StoredChannels":
        return StoredChannels(self.stored, self.direct, self.strangers)

    async def by_id(self, ids: Iterable[str]) -> dict[str, User]:
        return {user.id: user for user in self.people if user.id in set(ids)}

    async def pick(self, ids: Iterable[str], names: Sequence[str]) -> dict[str, PickedUser]:
        return {
            id_: PickedUser(_state(user), [getattr(user, name) for name in names])
            for id_, user in (await self.by_id(ids)).items()
        }


@dataclass(frozen=True)
class StoredChannels:
    stored: Sequence[Channel]
    direct: Mapping[str, str]
    strangers: frozenset[str]

    async def members_among(
        self, cids: Sequence[str], user_ids: Sequence[str]
    ) -> set[tuple[str, str]]:
        pairs = zip(cids, user_ids, strict=True)
        return {(cid, user_id) for cid, user_id in pairs if user_id not in self.strangers}

    async def pick(self, cids: Iterable[str], names: Sequence[str]) -> dict[str, PickedChannel]:
        return {
            channel.cid: PickedChannel(
                channel.cid, _channel_state(channel), [getattr(channel, name) for name in names]
            )
            for channel in self.stored
            if channel.cid in set(cids)
        }

    async def between(
        self, user_id: str, others: Sequence[str], names: Sequence[str]
    ) -> dict[str, PickedChannel]:
        assert user_id == SENDER_ID
        picked = await self.pick(self.direct.values(), names)
        return {other: picked[cid] for other, cid in self.direct.items() if other in others}


def _state(user: User) -> UserState:
    if user.deleted_at is not None:
        return UserState.DELETED
    return UserState.ACTIVE if user.deactivated_at is None else UserState.DEACTIVATED


def _channel_state(channel: Channel) -> ChannelState:
    if channel.deleted_at is not None:
        return ChannelState.DELETED
    if channel.frozen or channel.disabled:
        return ChannelState.FROZEN
    return ChannelState.DISTINCT if channel.distinct else ChannelState.OPEN


async def planned(
    campaign: Campaign, targets: Sequence[str] = ("ann", "bob"), world: World | None = None
) -> PlannedPage:
    run = a_compiled_campaign(campaign, SENDER)
    planner = Planner(run, cast("ChatStore", world or World()), lambda: MOMENT)
    return await planner.plan(targets)


async def planned_for(
    targets: Sequence[str] = ("ann", "bob"), world: World | None = None, **changes: Any
) -> PlannedPage:
    return await planned(a_campaign(spec=a_spec(**changes)), targets, world)


def column(page: PlannedPage, rows: str, name: str) -> list[Any]:
    """The column's values, or the constant once for each row."""
    columns = getattr(page.rows, rows)
    if not columns:
        return []
    if name in columns:
        return list(columns[name])
    constants = {
        "channels": page.rows.channel_constants,
        "messages": page.rows.message_constants,
    }[rows]
    return [constants[name]] * len(next(iter(columns.values())))


def cids_by_target(page: PlannedPage) -> dict[str, str]:
    return dict(
        zip(column(page, "messages", "target_id"), column(page, "messages", "cid"), strict=True)
    )


def members_of_new_channels(page: PlannedPage) -> dict[str, set[str]]:
    cids = column(page, "channels", "cid")
    members = {cid: {member.user_id for member in page.rows.fixed_members} for cid in cids}
    receivers = page.rows.receivers
    if receivers:
        for cid, user_id in zip(receivers["cid"], receivers["user_id"], strict=True):
            assert user_id not in members[cid]
            members[cid].add(user_id)
    assert column(page, "channels", "member_count") == [len(members[cid]) for cid in cids]
    return members


# --- which channel


async def test_a_template_id_is_rendered_for_each_receiver() -> None:
    page = await planned_for()

    assert cids_by_target(page) == {"ann": "messaging:ann-acme", "bob": "messaging:bob-acme"}
    assert column(page, "channels", "id") == ["ann-acme", "bob-acme"]
    assert column(page, "channels", "distinct") == [False, False]


async def test_without_an_id_it_is_the_distinct_channel_of_its_members() -> None:
    page = await planned_for(channel_template=a_channel_template(id=None, members=("carl",)))

    ids = [distinct_channel_id([name, SENDER_ID, "carl"]) for name in ("ann", "bob")]
    assert column(page, "channels", "id") == ids
    assert column(page, "channels", "distinct") == [True, True]
    assert members_of_new_channels(page) == {
        f"messaging:{ids[0]}": {"ann", "carl", SENDER_ID},
        f"messaging:{ids[1]}": {"bob", "carl", SENDER_ID},
    }


async def test_with_fewer_than_two_members_the_id_is_derived_from_campaign_and_receiver() -> None:
    page = await planned_for(
        channel_template=a_channel_template(id=None), sender_mode=SenderMode.EXCLUDE
    )

    assert column(page, "channels", "id") == [
        derived_channel_id("spring", "ann"),
        derived_channel_id("spring", "bob"),
    ]
    assert column(page, "channels", "distinct") == [False, False]
    assert list(members_of_new_channels(page).values()) == [{"ann"}, {"bob"}]


async def test_a_sender_alone_with_themselves_gets_a_derived_channel() -> None:
    page = await planned_for([SENDER_ID], channel_template=a_channel_template(id=None))

    assert column(page, "channels", "id") == [derived_channel_id("spring", SENDER_ID)]
    assert list(members_of_new_channels(page).values()) == [{SENDER_ID}]


async def test_without_a_template_it_is_the_existing_channel_with_the_sender() -> None:
    channel = a_channel("old", distinct=True)
    world = World(stored=[channel], direct={"ann": channel.cid})

    page = await planned_for(world=world, channel_template=None, create_channels=False)

    assert cids_by_target(page) == {"ann": channel.cid}
    # nobody knows which channel it would be
    assert page.not_sent == (NotSent("bob", Reason.CHANNEL_NOT_FOUND),)
    assert not page.rows.channels


async def test_an_existing_channel_is_used_and_not_made_again() -> None:
    channel = a_channel("ann-acme", custom={"kept": True})

    page = await planned_for(world=World(stored=[channel]))

    assert cids_by_target(page) == {"ann": channel.cid, "bob": "messaging:bob-acme"}
    assert column(page, "channels", "cid") == ["messaging:bob-acme"]
    assert page.rows.messages_per_channel == {channel.cid: 1}
    assert (page.sent, page.channels_created) == (2, 1)


async def test_nothing_is_created_where_that_was_not_asked_for() -> None:
    page = await planned_for(create_channels=False)

    assert page.not_sent == (
        NotSent("ann", Reason.CHANNEL_NOT_FOUND, "messaging:ann-acme"),
        NotSent("bob", Reason.CHANNEL_NOT_FOUND, "messaging:bob-acme"),
    )
    assert (page.sent, page.channels_created) == (0, 0)
    assert page.rows == PageRows(moment=MOMENT, sender_joins=[], sender_id=SENDER_ID)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"frozen": True}, Reason.CHANNEL_FROZEN),
        ({"disabled": True}, Reason.CHANNEL_FROZEN),
        ({"deleted_at": MOMENT}, Reason.CHANNEL_NOT_FOUND),
        ({"deleted_at": MOMENT, "frozen": True}, Reason.CHANNEL_NOT_FOUND),
    ],
    ids=["frozen", "disabled", "deleted", "deleted and frozen"],
)
async def test_a_channel_that_takes_no_messages_skips_its_target(
    changes: dict[str, Any], reason: Reason
) -> None:
    world = World(stored=[a_channel("ann-acme", **changes)])

    page = await planned_for(world=world)

    assert page.not_sent == (NotSent("ann", reason, "messaging:ann-acme"),)
    assert reason.outcome is Outcome.SKIPPED
    assert list(cids_by_target(page)) == ["bob"]


@pytest.mark.parametrize(
    "id_",
    [
        "{{ receiver.nickname }}",
        "{{ receiver.id }}!",
        "!members-{{ receiver.id }}",
        "{{ receiver.id }} {{ sender.id }}",
        "messaging:{{ receiver.id }}",
        "é{{ receiver.id }}",
        "{{ receiver.id }}\n",
        "{{ 'x' * 256 }}",
    ],
)
async def test_a_rendered_id_that_no_channel_can_have_fails_its_target(id_: str) -> None:
    page = await planned_for(channel_template=a_channel_template(id=id_))

    assert {not_sent.reason for not_sent in page.not_sent} == {Reason.CHANNEL_ID_INVALID}
    assert Reason.CHANNEL_ID_INVALID.outcome is Outcome.FAILED
    assert page.sent == 0


@pytest.mark.parametrize(
    "id_",
    [
        "{{ 'x' * 255 }}",
        "_-{{ receiver.id }}Z9",
        "6e1e1b0e-4a0c-4f6e-9d5e-0f5c5a1c7e11-{{ sender.id }}-6e1e1b0e-4a0c-4f6e-9d5e-0f5c5a1c7e11",
        "{{ receiver.id }}.lee+news@example.com-{{ sender.id }}",
    ],
)
async def test_a_rendered_id_may_be_of_uuids_and_e_mail_addresses_up_to_255_characters(
    id_: str,
) -> None:
    page = await planned_for(["ann"], channel_template=a_channel_template(id=id_))

    assert page.sent == 1


async def test_two_receivers_who_are_members_of_the_same_new_channel_share_it() -> None:
    page = await planned_for(
        channel_template=a_channel_template(
            id="lobby", custom={"for": "{{ receiver.id }}"}, members=("bob",)
        ),
        message_template=a_message_template(text="{{ channel.for }} {{ channel.member_count }}"),
    )

    assert cids_by_target(page) == {"ann": "messaging:lobby", "bob": "messaging:lobby"}
    assert column(page, "channels", "cid") == ["messaging:lobby"]
    assert column(page, "channels", "custom") == [{"for": "ann"}]
    assert members_of_new_channels(page) == {"messaging:lobby": {"ann", "bob", SENDER_ID}}
    # one message comes with the channel, one arrives in it
    assert column(page, "channels", "message_count") == [1]
    assert page.rows.messages_per_channel == {"messaging:lobby": 1}
    assert column(page, "messages", "text") == ["ann 3", "ann 3"]
    assert (page.sent, page.channels_created) == (2, 1)


async def test_a_receiver_whose_new_channel_was_made_for_another_gets_nothing() -> None:
    page = await planned_for(channel_template=a_channel_template(id="lobby"))

    assert cids_by_target(page) == {"ann": "messaging:lobby"}
    assert page.not_sent == (NotSent("bob", Reason.RECEIVER_NOT_MEMBER, "messaging:lobby"),)
    assert Reason.RECEIVER_NOT_MEMBER.outcome is Outcome.SKIPPED


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({}, {}, Reason.RECEIVER_NOT_MEMBER),
        ({"sender_mode": SenderMode.INCLUDE}, {}, Reason.RECEIVER_NOT_MEMBER),
        ({}, {"frozen": True}, Reason.CHANNEL_FROZEN),
        ({}, {"deleted_at": MOMENT}, Reason.CHANNEL_NOT_FOUND),
    ],
)
async def test_a_receiver_who_is_no_member_of_the_existing_channel_gets_nothing(
    changes: dict[str, Any], state: dict[str, Any], reason: Reason
) -> None:
    stored = [a_channel(f"{id_}-acme", **(state if id_ == "bob" else {})) for id_ in ("ann", "bob")]
    world = World(stored=stored, strangers=frozenset({"bob"}))
    page = await planned_for(world=world, **changes)

    assert cids_by_target(page) == {"ann": "messaging:ann-acme"}
    assert page.not_sent == (NotSent("bob", reason, "messaging:bob-acme"),)


async def test_the_sender_who_joins_with_the_message_is_no_stranger() -> None:
    world = World(stored=[a_channel("acme-acme")], strangers=frozenset({SENDER_ID}))
    included = await planned_for([SENDER_ID], world, sender_mode=SenderMode.INCLUDE)
    outside = await planned_for([SENDER_ID], world)

    assert (included.sent, outside.sent) == (1, 0)


# --- who is in it


async def test_a_new_channel_has_its_receiver_and_the_sender() -> None:
    page = await planned_for()

    assert members_of_new_channels(page) == {
        "messaging:ann-acme": {"ann", SENDER_ID},
        "messaging:bob-acme": {"bob", SENDER_ID},
    }
    assert column(page, "channels", "created_by_id") == [SENDER_ID, SENDER_ID]


@pytest.mark.parametrize(
    ("mode", "in_new", "joins_old"),
    [
        (None, True, False),
        (SenderMode.EXCLUDE, False, False),
        (SenderMode.INCLUDE, True, True),
    ],
    ids=["unspecified", "exclude", "include"],
)
async def test_the_sender_mode_decides_where_the_sender_is(
    mode: SenderMode | None, *, in_new: bool, joins_old: bool
) -> None:
    old = a_channel("ann-acme")

    page = await planned_for(world=World(stored=[old]), sender_mode=mode)

    (new_members,) = members_of_new_channels(page).values()
    assert (SENDER_ID in new_members) is in_new
    assert list(page.rows.sender_joins) == ([old.cid] if joins_old else [])
    assert page.rows.sender_id == SENDER_ID


async def test_nobody_joins_a_distinct_channel() -> None:
    """Who is in it is its identity."""
    old = a_channel("old", distinct=True)
    world = World(stored=[old], direct={"ann": old.cid})

    page = await planned_for(
        ["ann"], world, channel_template=None, create_channels=False, sender_mode=SenderMode.INCLUDE
    )

    assert page.sent == 1
    assert not page.rows.sender_joins


@pytest.mark.parametrize(
    ("visibility", "hidden", "archived_at"),
    [
        (None, False, None),
        (SenderVisibility.HIDDEN, True, None),
        (SenderVisibility.ARCHIVED, False, MOMENT),
    ],
    ids=["unspecified", "hidden", "archived"],
)
async def test_the_sender_visibility_marks_the_sender_alone(
    visibility: SenderVisibility | None, *, hidden: bool, archived_at: Any
) -> None:
    page = await planned_for(
        sender_visibility=visibility, channel_template=a_channel_template(members=("carl",))
    )

    sender, carl = page.rows.fixed_members
    assert (sender.user_id, sender.hidden, sender.archived_at) == (SENDER_ID, hidden, archived_at)
    assert (carl.user_id, carl.hidden, carl.archived_at) == ("carl", False, None)


async def test_an_excluded_sender_has_nothing_to_mark() -> None:
    page = await planned_for(
        sender_mode=SenderMode.EXCLUDE, sender_visibility=SenderVisibility.HIDDEN
    )

    assert page.rows.fixed_members == ()


async def test_extra_members_are_in_every_new_channel_once() -> None:
    page = await planned_for(channel_template=a_channel_template(members=("carl", "ann", "carl")))

    assert members_of_new_channels(page) == {
        "messaging:ann-acme": {"ann", "carl", SENDER_ID},
        "messaging:bob-acme": {"ann", "bob", "carl", SENDER_ID},
    }


async def test_a_members_template_gives_roles_and_custom_data() -> None:
    moderator = MemberTemplate(user_id="carl", channel_role="moderator", custom={"desk": 3})
    page = await planned_for(channel_template=a_channel_template(members_template=(moderator,)))

    _, carl = page.rows.fixed_members
    assert (carl.user_id, carl.channel_role, carl.custom) == ("carl", "moderator", {"desk": 3})


async def test_a_sender_among_the_receivers_is_one_member() -> None:
    page = await planned_for([SENDER_ID, "ann"])

    assert members_of_new_channels(page) == {
        "messaging:acme-acme": {SENDER_ID},
        "messaging:ann-acme": {"ann", SENDER_ID},
    }
    assert page.sent == 2


@pytest.mark.parametrize("show", [True, False])
async def test_existing_channels_are_shown_again_only_where_asked_for(*, show: bool) -> None:
    old = a_channel("ann-acme")

    page = await planned_for(world=World(stored=[old]), show_channels=show)

    expected = {"cid": [old.cid], "user_id": ["ann"]} if show else {}
    assert page.rows.unhidden == expected


# --- the message


async def test_a_message_says_who_sent_it_and_for_which_campaign() -> None:
    page = await planned_for(
        ["ann"],
        message_template=a_message_template(
            custom={"country": "{{ receiver.country }}", "campaign_id": "forged"},
            attachments=({"title": "{{ receiver.name }}"}, {"title": "fixed"}),
            poll_id="poll",
            searchable=True,
        ),
    )

    message = {name: column(page, "messages", name)[0] for name in _MESSAGE_COLUMNS}
    assert message == {
        "id": message_id(message_id_prefix("spring"), "ann"),
        "cid": "messaging:ann-acme",
        "user_id": SENDER_ID,
        "type": "regular",
        "text": "Hi Ann",
        "attachments": [{"title": "Ann"}, {"title": "fixed"}],
        "poll_id": "poll",
        "custom": {
            "country": "France",
            "campaign_id": "spring",
            "created_by_campaign_id": "spring",
        },
        "searchable": True,
        "campaign_id": "spring",
        "target_id": "ann",
        "created_at": MOMENT,
    }


async def test_constant_custom_data_is_marked_too() -> None:
    page = await planned_for(message_template=a_message_template(custom={"a": 1}))

    marks = {"campaign_id": "spring", "created_by_campaign_id": "spring"}
    assert column(page, "messages", "custom") == [{"a": 1, **marks}] * 2


async def test_custom_and_team_are_set_on_creation() -> None:
    page = await planned_for(
        channel_template=a_channel_template(team="red", custom={"for": "{{ custom.country }}"})
    )

    assert column(page, "channels", "custom") == [{"for": "France"}, {"for": "USA"}]
    assert column(page, "channels", "team") == ["red", "red"]
    assert column(page, "channels", "last_message_at") == [MOMENT, MOMENT]


async def test_a_message_can_tell_of_the_channel_it_goes_to() -> None:
    old = a_channel("ann-acme", custom={"topic": "old"}, member_count=7)

    page = await planned_for(
        world=World(stored=[old]),
        channel_template=a_channel_template(custom={"topic": "{{ receiver.name }}"}),
        message_template=a_message_template(
            text="{{ channel.cid }} {{ channel.topic }} {{ channel.member_count }}"
        ),
    )

    assert column(page, "messages", "text") == [
        "messaging:ann-acme old 7",
        "messaging:bob-acme Bob 2",
    ]


async def test_custom_is_the_receivers_custom_object() -> None:
    page = await planned_for(message_template=a_message_template(text="{{ custom.country }}"))

    assert column(page, "messages", "text") == ["France", "USA"]


async def test_a_field_that_is_not_set_is_missing_to_a_template() -> None:
    nameless = a_user("ann", name=None)

    page = await planned_for(
        ["ann"],
        World(people=[SENDER, nameless]),
        message_template=a_message_template(text="Hi {{ receiver.name|default('you') }}"),
    )

    assert column(page, "messages", "text") == ["Hi you"]


async def test_times_read_as_rfc_3339() -> None:
    page = await planned_for(
        ["ann"], message_template=a_message_template(text="{{ receiver.created_at }}")
    )

    assert column(page, "messages", "text") == ["2026-03-01T12:00:00Z"]


# --- who gets none


async def test_who_can_not_be_reached_is_skipped_with_the_reason() -> None:
    gone = [a_user("carl", deactivated_at=MOMENT), a_user("dora", deleted_at=MOMENT)]
    both = a_user("emil", deactivated_at=MOMENT, deleted_at=MOMENT)

    page = await planned_for(
        ["ann", "carl", "dora", "emil", "nobody"], World(people=[SENDER, ANN, *gone, both])
    )

    assert page.not_sent == (
        NotSent("carl", Reason.USER_DEACTIVATED),
        NotSent("dora", Reason.USER_DELETED),
        NotSent("emil", Reason.USER_DELETED),
        NotSent("nobody", Reason.USER_NOT_FOUND),
    )
    assert {not_sent.reason.outcome for not_sent in page.not_sent} == {Outcome.SKIPPED}
    assert page.sent == 1


FAILS_FOR_ANN = "{% if receiver.id == 'ann' %}{{ 'x' * 10 ** 9 }}{% endif %}"


@pytest.mark.parametrize(
    "changes",
    [
        {"message_template": a_message_template(text=FAILS_FOR_ANN)},
        {"message_template": a_message_template(custom={"a": FAILS_FOR_ANN})},
        {"message_template": a_message_template(attachments=({"a": [FAILS_FOR_ANN]},))},
        {"channel_template": a_channel_template(id=f"{{{{ receiver.id }}}}{FAILS_FOR_ANN}")},
        {"channel_template": a_channel_template(custom={"a": FAILS_FOR_ANN})},
    ],
    ids=["text", "custom", "attachments", "channel id", "channel custom"],
)
async def test_a_template_that_fails_fails_that_receiver_alone(changes: dict[str, Any]) -> None:
    page = await planned_for(**changes)

    assert page.not_sent == (NotSent("ann", Reason.TEMPLATE_ERROR),)
    assert Reason.TEMPLATE_ERROR.outcome is Outcome.FAILED
    assert list(cids_by_target(page)) == ["bob"]
    assert len(column(page, "channels", "cid")) == page.channels_created == page.sent == 1


async def test_other_tasks_run_between_targets_that_take_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that moves on by a second at each look makes every target one that takes long."""
    monkeypatch.setattr(planning, "perf_counter", count().__next__)
    people = [a_user(f"u{number}") for number in range(20)]
    runs = 0

    async def others() -> None:
        nonlocal runs
        while True:
            runs += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    page = await planned_for([user.id for user in people], World([SENDER, *people]))
    task.cancel()

    assert page.sent == 20
    # between their channels, and again between their messages
    assert runs >= 2 * 20


@pytest.mark.parametrize(("length", "sent"), [(20_000, True), (20_001, False)])
async def test_a_text_of_more_than_20000_characters_fails_its_receiver(
    length: int, *, sent: bool
) -> None:
    template = a_message_template(text=f"{{{{ 'é' * {length} }}}}")

    page = await planned_for(["ann"], message_template=template)

    assert page.sent == sent
    expected = () if sent else (NotSent("ann", Reason.MESSAGE_TOO_LONG),)
    assert page.not_sent == expected
    assert Reason.MESSAGE_TOO_LONG.outcome is Outcome.FAILED
    assert page.channels_created == sent


@pytest.mark.parametrize(
    "changes",
    [
        {"message_template": a_message_template(custom={"a": "{{ 'x' * 5200 }}"})},
        {"channel_template": a_channel_template(custom={"a": "{{ 'x' * 5200 }}"})},
    ],
    ids=["message", "channel"],
)
async def test_rendered_custom_data_of_more_than_5_kb_fails_its_receiver(
    changes: dict[str, Any],
) -> None:
    page = await planned_for(["ann"], **changes)

    assert page.not_sent == (NotSent("ann", Reason.TEMPLATE_ERROR),)


async def test_an_empty_text_is_sent() -> None:
    page = await planned_for(
        ["ann"], message_template=a_message_template(text="{{ receiver.nickname }}")
    )

    assert column(page, "messages", "text") == [""]


@pytest.mark.parametrize(
    "people",
    [[ANN], [a_user(SENDER_ID, deleted_at=MOMENT)], [a_user(SENDER_ID, deactivated_at=MOMENT)]],
    ids=["unknown", "deleted", "deactivated"],
)
@pytest.mark.parametrize("to_channels", [False, True], ids=["users", "channels"])
async def test_a_sender_who_is_gone_ends_the_run(people: list[User], *, to_channels: bool) -> None:
    campaign = a_campaign(
        spec=a_spec(message_template=a_message_template(text="Hi")),
        to_channels=to_channels,
    )

    with pytest.raises(ReferenceGoneError) as gone:
        await planned(campaign, ["ann"], World(people=people))

    assert (gone.value.kind, gone.value.ids) == ("sender", (SENDER_ID,))


# --- channels as targets


def a_channel_campaign(text: str = "Hello", **changes: Any) -> Campaign:
    spec = a_spec(
        user_ids=(),
        segment_ids=("rooms",),
        message_template=a_message_template(text=text),
        channel_template=None,
        create_channels=False,
        **changes,
    )
    return a_campaign(spec=spec, to_channels=True)


async def test_channel_targets_get_the_message_or_the_reason_why_not() -> None:
    stored = [
        a_channel("open", custom={"topic": "tea"}),
        a_channel("cold", frozen=True),
        a_channel("shut", disabled=True),
        a_channel("gone", deleted_at=MOMENT),
    ]
    targets = [*(channel.cid for channel in stored), "messaging:never"]

    page = await planned(
        a_channel_campaign("{{ channel.id }} {{ channel.topic }} {{ custom.topic }}"),
        targets,
        World(stored=stored),
    )

    assert column(page, "messages", "text") == ["open tea tea"]
    assert cids_by_target(page) == {"messaging:open": "messaging:open"}
    assert page.not_sent == (
        NotSent("messaging:cold", Reason.CHANNEL_FROZEN, "messaging:cold"),
        NotSent("messaging:shut", Reason.CHANNEL_FROZEN, "messaging:shut"),
        NotSent("messaging:gone", Reason.CHANNEL_NOT_FOUND, "messaging:gone"),
        NotSent("messaging:never", Reason.CHANNEL_NOT_FOUND, "messaging:never"),
    )
    assert not page.rows.channels
    assert page.rows.messages_per_channel == {"messaging:open": 1}


async def test_channel_targets_are_never_created() -> None:
    campaign = a_campaign(
        spec=a_spec(message_template=a_message_template(text="Hi")), to_channels=True
    )

    page = await planned(campaign, ["messaging:never"])

    assert page.not_sent == (
        NotSent("messaging:never", Reason.CHANNEL_NOT_FOUND, "messaging:never"),
    )


async def test_channel_targets_have_nobody_to_be_shown_to() -> None:
    page = await planned(
        a_channel_campaign(show_channels=True),
        ["messaging:open"],
        World(stored=[a_channel("open")]),
    )

    assert page.sent == 1
    assert not page.rows.unhidden


async def test_the_sender_joins_channel_targets_where_asked_for() -> None:
    page = await planned(
        a_channel_campaign(sender_mode=SenderMode.INCLUDE),
        ["messaging:open"],
        World(stored=[a_channel("open")]),
    )

    assert list(page.rows.sender_joins) == ["messaging:open"]


# --- the conservation law of a page

TIMES = st.sampled_from([None, MOMENT])
NAMES = [f"u{number}" for number in range(8)]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    people = [
        a_user(name, deactivated_at=draw(TIMES), deleted_at=draw(TIMES))
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    ]
    stored = [
        a_channel(
            f"{name}-acme",
            frozen=draw(st.booleans()),
            disabled=draw(st.booleans()),
            deleted_at=draw(TIMES),
            distinct=draw(st.booleans()),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    ]
    direct = {
        channel.id.removesuffix("-acme"): channel.cid for channel in stored if draw(st.booleans())
    }
    return World([SENDER, *people], stored, direct)


CHANNEL_TEMPLATES = st.sampled_from(
    [
        None,
        a_channel_template(),
        a_channel_template(id=None),
        a_channel_template(id="lobby"),
        a_channel_template(id="{{ receiver.id[1:] }}"),
        a_channel_template(id="{{ 1 / receiver.id[1:]|int }}"),
        a_channel_template(members=("u1", "extra")),
        a_channel_template(custom={"a": "{{ 6 // receiver.id[1:]|int }}"}),
    ]
)
TEXTS = st.sampled_from(
    ["Hi", "{{ 1 // receiver.id[1:]|int }}", "{{ 'x' * (receiver.id[1:]|int * 4000) }}"]
)


@given(
    world=worlds(),
    targets=st.lists(st.sampled_from([*NAMES, SENDER_ID]), unique=True),
    template=CHANNEL_TEMPLATES,
    text=TEXTS,
    create=st.booleans(),
    mode=st.sampled_from([None, *SenderMode]),
    show=st.booleans(),
)
async def test_every_target_of_a_page_is_counted_once(
    world: World,
    targets: list[str],
    template: Any,
    text: str,
    mode: SenderMode | None,
    *,
    create: bool,
    show: bool,
) -> None:
    page = await planned_for(
        targets,
        world,
        channel_template=template,
        message_template=a_message_template(text=text),
        create_channels=create and template is not None,
        sender_mode=mode,
        show_channels=show,
    )

    sent = column(page, "messages", "target_id")
    assert sorted([*sent, *(not_sent.target_id for not_sent in page.not_sent)]) == sorted(targets)
    assert page.sent == len(sent)
    _assert_consistent(page)


def _assert_consistent(page: PlannedPage) -> None:
    """Columns of one length, and every message in a channel that is there or made."""
    for name in ("channels", "messages", "receivers", "unhidden"):
        assert len({len(values) for values in getattr(page.rows, name).values()}) <= 1
    new = column(page, "channels", "cid")
    assert page.channels_created == len(new) == len(set(new))
    members_of_new_channels(page)
    arrived = sum(page.rows.messages_per_channel.values())
    assert arrived + len(new) == page.sent
    if page.sent:
        assert set(column(page, "messages", "cid")) == {*new, *page.rows.messages_per_channel}


_MESSAGE_COLUMNS = (
    "id cid user_id type text attachments poll_id custom searchable campaign_id target_id "
    "created_at"
).split()


def test_the_pages_rows_are_all_looked_at_here() -> None:
    looked_at = {
        "moment", "channels", "channel_constants", "fixed_members", "receivers", "messages",
        "message_constants", "messages_per_channel", "sender_joins", "sender_id", "unhidden",
    }  # fmt: skip

    assert {row.name for row in fields(PageRows)} == looked_at
