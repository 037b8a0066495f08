"""Keyset paging: the cursors of a page and of its neighbours."""

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
    """A sort by one field. Missing values come last in either direction.

    In a custom field, arrays and objects come last too. Numbers come before strings and strings
    before booleans; `descending` reverses this order as well.
    """

    field: Field
    descending: bool = False


NEWEST_FIRST = (Sort(Field("created_at", Kind.DATE), descending=True),)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position between two records: just after the one with `key`, or just before if `backward`.

    `key` holds the sorted values, times as microseconds since the epoch, and the record's id. An
    empty key is the position before all records, or after all if `backward`.
    """

    key: Key
    backward: bool = False


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for `size` records (at least 1) from the cursor on, ordered by `sort`, then by id.

    Without a cursor, the page has the first records. A backward cursor selects the records before
    it, in the same order.
    """

    size: int
    sort: tuple[Sort, ...] = ()
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of records. A cursor is None if nothing followed when the page was read."""

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
    """Reads (field, descending) pairs. Returns `default` if there are none."""
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
    """Makes the page of up to `size` + 1 records found from the cursor on, nearest first."""
    here = request.cursor
    backward = here is not None and here.backward
    kept = found[: request.size]
    ahead = len(found) > request.size
    if not kept:
        if here is None or not here.key:
            return Page(())
        # nothing is beyond the cursor, so the neighbouring page ends at that end
        end = Cursor((), backward=not backward)
        return Page((), next_cursor=end) if backward else Page((), prev_cursor=end)
    if backward:
        kept = kept[::-1]
    # nothing is behind an end cursor
    behind = here is not None and here.key != ()
    has_next, has_prev = (behind, ahead) if backward else (ahead, behind)
    return Page(
        tuple(item for _, item in kept),
        next_cursor=Cursor(kept[-1][0]) if has_next else None,
        prev_cursor=Cursor(kept[0][0], backward=True) if has_prev else None,
    )
