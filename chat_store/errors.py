"""What can go wrong in the store, in words that any caller can act on."""


class ChatStoreError(Exception):
    """Root of the store's own errors."""


def for_operators(error: Exception) -> str:
    """The error and, in one line, what the driver has said about it."""
    cause = str(error.__cause__ or "").partition("\n")[0]
    return f"{error}: {cause}" if cause else str(error)


class StoreUnavailableError(ChatStoreError):
    """The database can't be reached, is locked or full: nothing was written; try again later."""


class RequestTooLargeError(ChatStoreError):
    """The database can't take as much as this in one statement: nothing was written."""


class StalePageError(ChatStoreError):
    """A page was planned against facts that no longer hold: plan it again.

    `key` names the key that was taken meanwhile.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"others keep taking what a page would write: {key}")
        self.key = key


class SchemaMismatchError(ChatStoreError):
    """The database is at another schema revision than this code."""

    def __init__(self, *, found: str | None, expected: str) -> None:
        super().__init__(
            f"the database is at schema revision {found or 'none'}, this server needs {expected}: "
            "run `python -m chat_store migrate`"
        )
        self.found = found
        self.expected = expected


class DatabaseEncodingError(ChatStoreError):
    """The database keeps text in another encoding than UTF-8."""

    def __init__(self, encoding: str, advice: str) -> None:
        super().__init__(f"the database's encoding is {encoding}, Herald needs UTF-8: {advice}")
        self.encoding = encoding


class InvalidDatabaseUrlError(ChatStoreError):
    """The URL of a PostgreSQL database can't be followed. Never shows what stands there."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"database URL: {problem}")


class InvalidInputError(ChatStoreError):
    """Input that breaks a rule, at the path where it does."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class LimitExceededError(InvalidInputError):
    """More than there may be, at the path where it is."""

    def __init__(self, field: str, *, limit: int, given: int) -> None:
        super().__init__(field, f"at most {limit}, {given} given")
        self.limit = limit
        self.given = given


class InvalidFilterError(InvalidInputError):
    """A mistake in a filter, at its path (`filter.$and[1].age.$in`)."""


class InvalidSortError(InvalidInputError):
    """A sort that can't be followed, at its path (`sort[0].field`)."""


class UserNotFoundError(ChatStoreError):
    def __init__(self, user_id: str) -> None:
        super().__init__(f"no user {user_id!r}")
        self.user_id = user_id


class ChannelNotFoundError(ChatStoreError):
    def __init__(self, cid: str) -> None:
        super().__init__(f"no channel {cid!r}")
        self.cid = cid


class MemberNotFoundError(ChatStoreError):
    def __init__(self, cid: str, user_id: str) -> None:
        super().__init__(f"no member {user_id!r} in channel {cid!r}")
        self.cid = cid
        self.user_id = user_id
