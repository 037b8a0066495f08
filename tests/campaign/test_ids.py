"""Ids made from what they stand for: short enough, in order, and each its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_service.campaigns.ids import derived_channel_id, message_id, message_id_prefix
from chat_store.distinct_channels import distinct_channel_id

LONGEST = 255
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
any_id = st.text(CHARACTERS, min_size=1, max_size=LONGEST)
plain_id = st.text(CHARACTERS, min_size=1, max_size=200)
# long ids that differ late, or only in their length
crowded_id = st.builds(
    lambda length, end: ("a" * length + end)[:LONGEST],
    st.integers(170, LONGEST),
    st.text("ab-", max_size=3),
)


def message_of(campaign_id: str, target_id: str) -> str:
    return message_id(message_id_prefix(campaign_id), target_id)


@given(any_id, any_id | crowded_id)
def test_a_message_id_fits_for_any_campaign_and_target(campaign_id: str, target_id: str) -> None:
    assert 0 < len(message_of(campaign_id, target_id)) <= LONGEST


@pytest.mark.parametrize("character", ["x", "é", "🎉"])
def test_a_message_id_fits_for_the_longest_ids_of_all(character: str) -> None:
    longest = character * LONGEST

    assert len(message_of(longest, longest)) <= LONGEST


@given(any_id, st.lists(plain_id))
def test_message_ids_are_in_the_bytewise_order_of_plain_targets(
    campaign_id: str, targets: list[str]
) -> None:
    targets.sort(key=str.encode)
    ids = [message_of(campaign_id, target) for target in targets]

    assert ids == sorted(ids, key=str.encode)


@given(any_id, st.sets(any_id | crowded_id, min_size=2))
def test_no_two_targets_share_a_message_id(campaign_id: str, targets: set[str]) -> None:
    assert len({message_of(campaign_id, target) for target in targets}) == len(targets)


@given(st.sets(any_id | crowded_id, min_size=2), any_id | crowded_id)
def test_no_two_campaigns_share_a_message_id(campaigns: set[str], target: str) -> None:
    assert len({message_of(campaign, target) for campaign in campaigns}) == len(campaigns)


def test_a_target_made_to_look_like_a_shortened_one_has_its_own_id() -> None:
    long = "a" * LONGEST
    shortened = message_of("spring", long).removeprefix(message_id_prefix("spring") + "-")

    assert message_of("spring", shortened) != message_of("spring", long)


@given(any_id, any_id)
def test_a_message_id_is_the_same_each_time(campaign_id: str, target_id: str) -> None:
    assert message_of(campaign_id, target_id) == message_of(campaign_id, target_id)


@pytest.mark.parametrize(
    ("members", "channel_id"),
    [
        (
            ["han_solo", "leia_organa"],
            "!members-vhPyEGDAjFA4JyC7fxDg3LsMFLGqKhXOKqZM-Y681_E",
        ),
        (
            ["148ff9e8-46c8-314f-89b2-9fabb685ee9f", "cilvia"],
            "!members-XFUSh76wb261G6dAQOibpTNpD2YFy6tVTcCIUqLVdng",
        ),
    ],
    ids=["han and leia", "a uuid and cilvia"],
)
def test_a_distinct_channel_has_the_id_that_the_original_gives_it(
    members: list[str], channel_id: str
) -> None:
    assert distinct_channel_id(members) == channel_id
    assert distinct_channel_id([*reversed(members), members[0]]) == channel_id


@given(any_id, any_id)
def test_a_derived_channel_id_is_one_that_a_template_might_have_rendered(
    campaign_id: str, receiver_id: str
) -> None:
    derived = derived_channel_id(campaign_id, receiver_id)

    assert len(derived) <= 64
    assert derived.replace("-", "").replace("_", "").isalnum()
    assert derived.isascii()


@given(st.sets(st.tuples(any_id, any_id), min_size=2))
def test_no_two_receivers_or_campaigns_share_a_derived_channel(pairs: set[tuple[str, str]]) -> None:
    assert len({derived_channel_id(*pair) for pair in pairs}) == len(pairs)
