"""Ids derived from their subject, so that a repeated derivation gives the same id."""

import hashlib
from base64 import urlsafe_b64encode

_LONGEST_PLAIN_TARGET = 200
_KEPT_OF_LONG_TARGET = 180


def message_id_prefix(campaign_id: str) -> str:
    return _digest(campaign_id)


def message_id(prefix: str, target_id: str) -> str:
    """Returns at most 255 characters, ordered like the targets, so that tables grow at their end.

    Two targets never share an id: shortened ones are all longer than any that is kept whole.
    """
    if len(target_id) <= _LONGEST_PLAIN_TARGET:
        return f"{prefix}-{target_id}"
    return f"{prefix}-{target_id[:_KEPT_OF_LONG_TARGET]}-{_digest(target_id)}"


def derived_channel_id(campaign_id: str, receiver_id: str) -> str:
    """Returns the channel id of a receiver that neither a template nor the members give one."""
    return f"campaign-{_digest(campaign_id)}-{_digest(receiver_id)}"


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()[:16]
    return urlsafe_b64encode(digest).decode().rstrip("=")
