from typing import Any

import pytest

from tests.clients.differences import differences

_STEP = {
    "code": "NOT_FOUND",
    "reason": "ERROR_REASON_USER_NOT_FOUND",
    "metadata": {"id": "ben"},
    "answers": 1,
    "answer": {"count": "3", "page": [{"id": "ben"}], "next": None},
}
_END = {
    "code": 5,
    "reason": "ERROR_REASON_USER_NOT_FOUND",
    "metadata": {"id": "ben", "more": "of it"},
    "answers": [{"count": "3", "page": [{"id": "ben", "name": "Ben"}]}],
}


def test_an_end_with_all_that_its_step_says_does_not_differ() -> None:
    assert list(differences(_STEP, _END)) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"code": 0}, "code is 0, not 5"),
        ({"reason": ""}, "reason is '', not 'ERROR_REASON_USER_NOT_FOUND'"),
        ({"metadata": {}}, "metadata.id is None, not 'ben'"),
        ({"answers": []}, "0 answers, not 1"),
        ({"answers": [{"page": [{"id": "ben"}]}]}, ".count is None, not '3'"),
        ({"answers": [{"count": 3, "page": [{"id": "ben"}]}]}, ".count is 3, not '3'"),
        ({"answers": [{"count": "3", "page": []}]}, ".page is [], not [{'id': 'ben'}]"),
        ({"answers": [{"count": "3", "page": [{"id": "zoë"}]}]}, ".page[0].id is 'zoë', not 'ben'"),
        (
            {"answers": [{"count": "3", "page": [{"id": "ben"}], "next": "more"}]},
            ".next is 'more', not None",
        ),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_each_part_of_an_end_is_compared(change: dict[str, Any], difference: str) -> None:
    assert difference in list(differences(_STEP, _END | change))
