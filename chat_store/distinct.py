"""The identity of a channel that is named by its members."""

import hashlib
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


def is_distinct(channel_id: str) -> bool:
    """Only such ids hold a `!`."""
    return channel_id.startswith(PREFIX)
