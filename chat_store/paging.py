"""Pages by key: where a page begins, and where its neighbours do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from chat_store.errors import InvalidSortError
from chat_store.filters.fields import Catalogue, Field, FieldNameError, Kind

MAX_SORT_FIELDS = 5

T = TypeVar("T")

KeyValue = str | int | float | bool | None
Key = tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class Sort:
    """Missing values come last in either direction.

    In a custom field so do arrays and objects; numbers come before strings, strings before
    booleans, and `descending` turns these round too.
    """

    field: Field
    descending: bool = False


NEWEST_FIRST = (Sort(Field("created_at", Kind.DATE), descending=True),)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place between two records: just after the one with `key`, or just before it if `backward`.

    `key` has the sorted values, times as microseconds since the epoch, and the record's id. An
    empty key is the place before all records, or after all if `backward`.
    """

    key: Key
    backward: bool = False


@dataclass(frozen=True, slots=True)
class PageRequest:
    """`size` records (at least 1) in the order of `sort` and then of the id, from the cursor on.

    Without a cursor: the first ones. A backward cursor gives those before it, in the same order.
    """

    size: int
    sort: tuple[Sort, ...] = ()
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A cursor is None where there was nothing more when the page was read."""

    items: tuple[T, ...]
    next_cursor: Cursor | None = None
    prev_cursor: Cursor | None = None


def parse_sort(
    wanted: Sequence[tuple[str, bool]],
    catalogue: Catalogue,
    *,
    default: tuple[Sort, ...] = NEWEST_FIRST,
    path: str = "sort",
) -> tuple[Sort, ...]:
    """Reads (field, descending) pairs; none of them means `default`."""
    if len(wanted) > MAX_SORT_FIELDS:
        raise InvalidSortError(path, f"at most {MAX_SORT_FIELDS} fields, not {len(wanted)}")
    sorts: dict[str, Sort] = {}
    for index, (name, descending) in enumerate(wanted):
        field_path = f"{path}[{index}].field"
        try:
            field = catalogue.find(name)
        except FieldNameError as error:
            raise InvalidSortError(field_path, str(error)) from None
        if not field.sortable:
            raise InvalidSortError(field_path, "has many values in one record: can't be sorted on")
        if name in sorts:
            raise InvalidSortError(field_path, "is already sorted on")
        sorts[name] = Sort(field, descending)
    return tuple(sorts.values()) or default


def page_of(found: Sequence[tuple[Key, T]], request: PageRequest) -> Page[T]:
    """Cuts the page out of up to `size` + 1 records found from the cursor on, nearest first."""
    here = request.cursor
    backward = here is not None and here.backward
    kept = found[: request.size]
    ahead = len(found) > request.size
    if not kept:
        if here is None or not here.key:
            return Page(())
        # nothing lies beyond the cursor, so all that is on the other side is up to that end
        end = Cursor((), backward=not backward)
        return Page((), next_cursor=end) if backward else Page((), prev_cursor=end)
    if backward:
        kept = kept[::-1]
    # behind an end cursor there is nothing: it stands at the very edge
    behind = here is not None and here.key != ()
    has_next, has_prev = (behind, ahead) if backward else (ahead, behind)
    return Page(
        tuple(item for _, item in kept),
        next_cursor=Cursor(kept[-1][0]) if has_next else None,
        prev_cursor=Cursor(kept[0][0], backward=True) if has_prev else None,
    )
