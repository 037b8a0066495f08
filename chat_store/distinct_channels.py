"""The identity of a channel that is named by its members."""

import hashlib
import unicodedata
from base64 import urlsafe_b64encode
from collections.abc import Iterable

PREFIX = "!members-"


def distinct_channel_id(member_ids: Iterable[str]) -> str:
    """The same members give the same id, in any order.

    `!members-` and the unpadded base64url of SHA-512/256 over the ids, sorted bytewise and
    joined by commas: the original's formula, so that imported channels are found again.
    """
    joined = ",".join(sorted(set(member_ids), key=str.encode)).encode()
    digest = hashlib.new("sha512_256", joined).digest()
    return PREFIX + urlsafe_b64encode(digest).decode().rstrip("=")


def user_id_problem(user_id: str) -> str | None:
    """Why nobody can have this id: with a comma, two sets of members could share one channel."""
    if "," in user_id:
        return "must not contain a comma"
    if any(unicodedata.category(character) == "Cc" for character in user_id):
        return "must not contain a control character"
    return None


def is_distinct(channel_id: str) -> bool:
    """Only such ids hold a `!`."""
    return channel_id.startswith(PREFIX)
