"""Scopes of tokens."""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    SEGMENTS_READ = "segments:read"
    SEGMENTS_WRITE = "segments:write"
    CHAT_READ = "chat:read"
    CHAT_WRITE = "chat:write"
    CAMPAIGNS_READ = "campaigns:read"
    CAMPAIGNS_WRITE = "campaigns:write"
    CAMPAIGNS_SEND = "campaigns:send"
    EVENTS_READ = "events:read"
    EVENTS_WRITE = "events:write"
    ACCESS_READ = "access:read"
    ACCESS_WRITE = "access:write"


def with_implied(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Returns the scopes, and for each `write` the `read` of the same."""
    given = frozenset(scopes)
    return given | {
        Scope(scope.removesuffix(":write") + ":read") for scope in given if scope.endswith(":write")
    }
