"""The rules for ids of channels and of campaigns' targets, in one place for all readers."""

import re

from chat_store.distinct_channels import PREFIX, user_id_problem

# Unicode characters
MAX_ID = 255
MAX_CHANNEL_TYPE = 64
MAX_CID = MAX_CHANNEL_TYPE + 1 + MAX_ID

CHANNEL_TYPE = re.compile(r"[A-Za-z0-9_-]+")
# chosen by callers and templates: UUIDs and e-mail addresses have a place in it
CHOSEN_CHANNEL_ID = re.compile(r"[A-Za-z0-9_.@+-]+")
CHANNEL_ID = re.compile(rf"(?:{PREFIX})?{CHOSEN_CHANNEL_ID.pattern}")


def is_chosen_channel_id(id_: str) -> bool:
    return len(id_) <= MAX_ID and CHOSEN_CHANNEL_ID.fullmatch(id_) is not None


def channel_type_problem(type_: str) -> str | None:
    return None if CHANNEL_TYPE.fullmatch(type_) else "may only have letters, digits, _ and -"


def channel_id_problem(id_: str) -> str | None:
    if CHANNEL_ID.fullmatch(id_):
        return None
    return "may only have letters, digits, and any of _ . @ + -"


def cid_problem(cid: str) -> str | None:
    """Why no channel can have this CID."""
    type_, colon, id_ = cid.partition(":")
    if not colon or len(type_) > MAX_CHANNEL_TYPE or len(id_) > MAX_ID:
        return "must be a CID, type:id"
    if channel_type_problem(type_) or channel_id_problem(id_):
        return "must be a CID, type:id, out of letters, digits, _ and -; the id also of . @ +"
    return None


def user_target_problem(user_id: str) -> str | None:
    """Why no user can have this id."""
    return (
        f"has more than {MAX_ID} characters" if len(user_id) > MAX_ID else user_id_problem(user_id)
    )
