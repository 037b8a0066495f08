"""The fields that segments and their targets can be filtered and sorted by."""

from chat_store.errors import InvalidFilterError
from chat_store.filters.fields import Catalogue, Field, Kind
from chat_store.filters.predicates import Condition, Predicate
from chat_store.paging import Sort
from segment_service.segments import SegmentType

SEGMENT_FIELDS = Catalogue(
    (
        *(Field(name, Kind.STRING) for name in ("id", "name")),
        Field("type", Kind.STRING, words=tuple(SegmentType)),
        *(Field(name, Kind.BOOL) for name in ("all_users", "all_sender_channels")),
        *(Field(name, Kind.DATE) for name in ("created_at", "updated_at")),
        Field("size", Kind.NUMBER),
    ),
    allow_custom=False,
)

_TARGET_ID = Field("target_id", Kind.STRING)
TARGET_FIELDS = Catalogue((_TARGET_ID,), allow_custom=False)
BY_TARGET_ID = (Sort(_TARGET_ID),)
_TARGET_OPERATORS = ("$eq", "$gt", "$gte", "$in", "$lt", "$lte")


def check_target_operators(predicate: Predicate) -> None:
    """Raises `InvalidFilterError` for a text search: targets can only be compared by id."""
    if not isinstance(predicate, Condition):
        for part in predicate.parts:
            check_target_operators(part)
        return
    operator = predicate.path.rpartition(".")[2]
    if operator.startswith("$") and operator not in _TARGET_OPERATORS:
        choice = ", ".join(_TARGET_OPERATORS)
        raise InvalidFilterError(predicate.path, f"is not for target_id; allowed are {choice}")
