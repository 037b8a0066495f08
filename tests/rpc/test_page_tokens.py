"""Tokens come back as what they were made of, or not at all."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from herald_rpc.server import page_tokens
from herald_rpc.server.page_tokens import InvalidTokenError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
POSITIONS: st.SearchStrategy[Any] = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4))
ARGUMENTS = st.lists(POSITIONS, max_size=4)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@settings(deadline=None)
@given(st.text(), ARGUMENTS, POSITIONS)
def test_a_token_gives_back_its_position(kind: str, bound_to: list[Any], position: Any) -> None:
    token = page_tokens.encode(kind, bound_to, position)

    back = page_tokens.decode(kind, bound_to, token)

    assert back == position
    assert type(back) is type(position)


@settings(deadline=None)
@given(ARGUMENTS, POSITIONS)
def test_a_token_can_stand_in_a_url_as_it_is(bound_to: list[Any], position: Any) -> None:
    assert set(page_tokens.encode("kind", bound_to, position)) <= set(ALPHABET)


@settings(deadline=None)
@given(POSITIONS, st.data())
def test_a_token_with_one_other_character_is_refused(position: Any, data: st.DataObject) -> None:
    token = page_tokens.encode("kind", ["s1"], position)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(ALPHABET + "+/=\n é") | st.characters())
    assume(other != token[at])

    with pytest.raises(InvalidTokenError):
        page_tokens.decode("kind", ["s1"], token[:at] + other + token[at + 1 :])


@settings(deadline=None)
@given(POSITIONS, st.data())
def test_a_token_that_was_cut_is_refused(position: Any, data: st.DataObject) -> None:
    token = page_tokens.encode("kind", ["s1"], position)
    length = data.draw(st.integers(0, len(token) - 1))

    with pytest.raises(InvalidTokenError):
        page_tokens.decode("kind", ["s1"], token[:length])


@settings(deadline=None)
@given(POSITIONS, st.text(alphabet=ALPHABET + "=\n ", min_size=1))
def test_a_token_with_something_behind_it_is_refused(position: Any, more: str) -> None:
    token = page_tokens.encode("kind", ["s1"], position)

    with pytest.raises(InvalidTokenError):
        page_tokens.decode("kind", ["s1"], token + more)


@settings(deadline=None)
@given(ARGUMENTS, ARGUMENTS, POSITIONS)
def test_a_token_of_other_arguments_is_refused(
    given_out: list[Any], brought_back: list[Any], position: Any
) -> None:
    assume(repr(given_out) != repr(brought_back))
    token = page_tokens.encode("kind", given_out, position)

    with pytest.raises(InvalidTokenError):
        page_tokens.decode("kind", brought_back, token)


@pytest.mark.parametrize(
    ("given_out", "brought_back"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["a"], ["a", None]),
        (["1"], [1]),
        ([1], [1.0]),
        ([1], [True]),
        ([["a"], []], [[], ["a"]]),
    ],
    ids=repr,
)
def test_arguments_that_look_alike_are_told_apart(
    given_out: list[object], brought_back: list[object]
) -> None:
    token = page_tokens.encode("kind", given_out, 1)

    with pytest.raises(InvalidTokenError):
        page_tokens.decode("kind", brought_back, token)


def test_a_token_of_another_call_is_refused() -> None:
    token = page_tokens.encode("QuerySegments", ["s1"], 1)

    with pytest.raises(InvalidTokenError):
        page_tokens.decode("QueryTargets", ["s1"], token)


def test_the_order_of_an_object_s_keys_makes_no_other_argument() -> None:
    token = page_tokens.encode("kind", [{"a": 1, "b": 2}], "here")

    assert page_tokens.decode("kind", [{"b": 2, "a": 1}], token) == "here"


@pytest.mark.parametrize("text", ["", "A", "AQ", "not a token", "ééé", "=" * 8], ids=repr)
def test_what_never_was_a_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidTokenError):
        page_tokens.decode("kind", [], text)
