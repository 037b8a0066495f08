"""Ids come in the order of their UTF-8 bytes, on every database and in every call."""

import pytest

from herald.chat.v1.sort_pb2 import SORT_DIRECTION_DESC, Sort
from tests.queries.query_clients import BY_ID_DOWN, QueryClients, person

# astral characters sort after U+FFxx in bytes, before them in UTF-16
IN_ORDER = sorted(
    "A Z a a-b a_b aa z É é e\u0301 ß א 中 \uff21 \ufffd \U00010000 \U0001f600 \U0001f600b".split(),
    key=str.encode,
)


@pytest.mark.parametrize("kind", ["list", "filter"])
async def test_targets_are_in_bytewise_order_both_ways(clients: QueryClients, kind: str) -> None:
    await clients.given(*(person(id_) for id_ in reversed(IN_ORDER)))
    segments = clients.segments
    if kind == "list":
        id_ = await segments.listing(*reversed(IN_ORDER))
    else:
        id_ = await segments.matching({"role": "user"})
    down = Sort(field="target_id", direction=SORT_DIRECTION_DESC)

    forth = await segments.query_targets(id_)
    back = await segments.query_targets(id_, sort=[down])

    assert await segments.targets(id_, page_size=4) == IN_ORDER
    assert [target.target_id for target in forth.targets] == IN_ORDER
    assert [target.target_id for target in back.targets] == IN_ORDER[::-1]


async def test_users_sorted_on_id_are_in_bytewise_order_both_ways(clients: QueryClients) -> None:
    await clients.given(*(person(id_) for id_ in IN_ORDER))

    assert await clients.users({}) == IN_ORDER
    assert await clients.users({}, sort=BY_ID_DOWN) == IN_ORDER[::-1]
    assert await clients.users({"id": {"$gt": "\ufffd"}}) == IN_ORDER[-3:]
