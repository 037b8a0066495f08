"""The arguments that all Query RPCs share: filter, sort, page and tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import Struct

from chat_store.errors import InvalidFilterError, InvalidInputError, InvalidSortError
from chat_store.filters.fields import Catalogue
from chat_store.filters.parsing import parse_filter
from chat_store.filters.predicates import Predicate
from chat_store.paging import NEWEST_FIRST, Cursor, Page, PageRequest, Sort, parse_sort
from chat_store.worker_thread import SHORT_BYTES, aside_if
from herald.chat.v1 import sort_pb2
from herald_rpc.server import page_tokens as tokens
from herald_rpc.wire.structs import json_object


class InvalidTokenError(InvalidInputError):
    """The page or resume token is damaged or belongs to another call."""


@dataclass(frozen=True, slots=True)
class PageSizes:
    default: int
    largest: int

    def size(self, asked: int, field: str = "page_size") -> int:
        """Returns the page size: 0 means the default, more than the largest becomes the largest.

        Raises `InvalidInputError` for a negative size.
        """
        if asked < 0:
            raise InvalidInputError(field, "must not be negative")
        return min(asked or self.default, self.largest)


@dataclass(frozen=True, slots=True)
class Paging:
    """The pages of one call. Its tokens are valid for exactly these arguments."""

    kind: str
    bound_to: Sequence[object]
    request: PageRequest

    def tokens(self, page: Page[Any]) -> tuple[str, str]:
        """Returns the tokens of the next and the previous page; empty if there is none."""
        return self._token(page.next_cursor), self._token(page.prev_cursor)

    def _token(self, cursor: Cursor | None) -> str:
        if cursor is None:
            return ""
        return tokens.encode(self.kind, self.bound_to, [cursor.backward, *cursor.key])


@dataclass(frozen=True, slots=True)
class Query:
    predicate: Predicate
    paging: Paging


async def read_query(
    kind: str,
    *,
    filter: Struct,  # noqa: A002 - the request's own word
    sort: Iterable[sort_pb2.Sort],
    page_size: int,
    page_token: str,
    sizes: PageSizes,
    catalogue: Catalogue,
    default_sort: tuple[Sort, ...] = NEWEST_FIRST,
    bound_to: Sequence[object] = (),
) -> Query:
    """Reads a query. Raises the error of the first invalid argument, at its path.

    A long filter is read in a thread. `bound_to` are further arguments to which tokens are bound.
    """

    def read() -> tuple[dict[str, Any], Predicate]:
        document = read_filter(filter)
        return document, parse_filter(document, catalogue)

    document, predicate = await aside_if(filter.ByteSize() > SHORT_BYTES, read)
    wanted = [(item.field, _is_descending(item, index)) for index, item in enumerate(sort)]
    return Query(
        predicate,
        read_paging(
            kind,
            page_size,
            page_token,
            sizes=sizes,
            sort=parse_sort(wanted, catalogue, default=default_sort),
            bound_to=[document, wanted, *bound_to],
        ),
    )


def _is_descending(sort: sort_pb2.Sort, index: int) -> bool:
    if sort.direction not in sort_pb2.SortDirection.values():
        raise InvalidSortError(f"sort[{index}].direction", "is not a SortDirection")
    return sort.direction == sort_pb2.SORT_DIRECTION_DESC


def read_filter(struct: Struct) -> dict[str, Any]:
    """Returns the filter's document, not parsed yet. Raises `InvalidFilterError` if not JSON."""
    try:
        return json_object(struct, "filter")
    except InvalidInputError as error:
        raise InvalidFilterError(error.field, error.problem) from error


def read_paging(
    kind: str,
    page_size: int,
    page_token: str,
    *,
    sizes: PageSizes,
    sort: tuple[Sort, ...] = (),
    bound_to: Sequence[object] = (),
    field: str = "page",
) -> Paging:
    """Reads paging alone. Raises for an invalid `{field}_size` or `{field}_token`."""
    cursor = None
    if page_token:
        backward, *key = read_token(kind, bound_to, page_token, f"{field}_token")
        cursor = Cursor(tuple(key), bool(backward))
    size = sizes.size(page_size, f"{field}_size")
    return Paging(kind, bound_to, PageRequest(size, sort, cursor))


def read_token(kind: str, bound_to: Sequence[object], token: str, field: str) -> Sequence[Any]:
    """Reads the token's position. Raises `InvalidTokenError` at `field`."""
    try:
        position = tokens.decode(kind, bound_to, token)
    except tokens.InvalidTokenError as error:
        raise InvalidTokenError(field, "is damaged, or belongs to another call") from error
    if not isinstance(position, list) or not position:
        raise InvalidTokenError(field, "is damaged, or belongs to another call")
    return position
