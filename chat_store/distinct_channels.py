"""The identity of a channel that is named by its members."""

import hashlib
import unicodedata
from base64 import urlsafe_b64encode
from collections.abc import Iterable

PREFIX = "!members-"


def distinct_channel_id(member_ids: Iterable[str]) -> str:
    """Returns the id of the channel with these members, in any order.

    The id is `!members-` and the unpadded base64url of SHA-512/256 over the ids, sorted bytewise
    and joined by commas: Stream's formula, so that imported channels are found again.
    """
    joined = ",".join(sorted(set(member_ids), key=str.encode)).encode()
    digest = hashlib.new("sha512_256", joined).digest()
    return PREFIX + urlsafe_b64encode(digest).decode().rstrip("=")


def user_id_problem(user_id: str) -> str | None:
    """Returns why a user can't have this id. With commas, two sets of members could collide."""
    if "," in user_id:
        return "must not contain a comma"
    if any(unicodedata.category(character) == "Cc" for character in user_id):
        return "must not contain a control character"
    return None


def is_distinct(channel_id: str) -> bool:
    """Returns whether the id was made from members; no other id contains a `!`."""
    return channel_id.startswith(PREFIX)
