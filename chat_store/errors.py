"""The store's errors, in words that any caller can act on."""


class ChatStoreError(Exception):
    """Root of the store's own errors."""


def for_operators(error: Exception) -> str:
    """Returns the error's text and, on the same line, the driver's message."""
    cause = str(error.__cause__ or "").partition("\n")[0]
    return f"{error}: {cause}" if cause else str(error)


class StoreUnavailableError(ChatStoreError):
    """The database is unreachable, locked or full. Nothing was written; a retry may succeed."""


class UnusableDatabaseError(ChatStoreError):
    """The database can't be used as it is named or as it is. A retry fails as well."""


class RequestTooLargeError(ChatStoreError):
    """The request exceeds what the database takes in one statement. Nothing was written."""


class StalePageError(ChatStoreError):
    """The stored data changed since the page was planned, so it must be planned again.

    `key` is the key that was taken meanwhile.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"a key that a page would write keeps being taken: {key}")
        self.key = key


class SchemaMismatchError(ChatStoreError):
    """The database's schema revision differs from this code's."""

    def __init__(self, *, found: str | None, expected: str, is_newer: bool = False) -> None:
        at = f"the database is at schema revision {found or 'none'}"
        super().__init__(
            f"{at}: the database is newer than this version, which knows {expected}"
            if is_newer
            else f"{at}, this server needs {expected}: run `herald migrate`"
        )
        self.found = found
        self.expected = expected
        self.is_newer = is_newer


class DatabaseEncodingError(ChatStoreError):
    """The database's text encoding is not UTF-8."""

    def __init__(self, encoding: str, advice: str) -> None:
        super().__init__(f"the database's encoding is {encoding}, Herald needs UTF-8: {advice}")
        self.encoding = encoding


class InvalidDatabaseUrlError(ChatStoreError):
    """The URL of a PostgreSQL database is invalid. The message never shows parts of the URL."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"database URL: {problem}")


class InvalidInputError(ChatStoreError):
    """The input breaks a rule at the path `field`."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class LimitExceededError(InvalidInputError):
    """The input exceeds a limit at the path `field`."""

    def __init__(self, field: str, *, limit: int, given: int) -> None:
        super().__init__(field, f"at most {limit}, {given} given")
        self.limit = limit
        self.given = given


class InvalidFilterError(InvalidInputError):
    """A mistake in a filter, at its path (`filter.$and[1].age.$in`)."""


class InvalidSortError(InvalidInputError):
    """An invalid sort, at its path (`sort[0].field`)."""


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
