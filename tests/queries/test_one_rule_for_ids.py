"""The import and the calls take the same ids."""

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from chat_store.errors import InvalidInputError
from chat_store.imports.fields import RecordError
from chat_store.imports.records import read_line, read_record
from herald.chat.v1 import chat_pb2 as pb
from herald_rpc.wire.channels import channel_from_proto
from herald_rpc.wire.users import user_from_proto

IDS = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(categories=["L", "N", "P", "S", "Z", "Cc", "Cf"]), max_size=12),
    st.from_regex(r"(!members-)?[\w.@+, :/%-]{1,12}", fullmatch=True),
    st.integers(250, 260).map(lambda length: "x" * length),
)


def imported(type_: str, data: dict[str, object]) -> bool:
    try:
        read_record(*read_line(orjson.dumps({"type": type_, "data": data})))
    except RecordError:
        return False
    return True


def user_is_taken(id_: str) -> bool:
    try:
        user_from_proto(pb.User(id=id_), "user")
    except InvalidInputError:
        return False
    return True


def channel_is_taken(type_: str, id_: str) -> bool:
    try:
        channel_from_proto(pb.Channel(type=type_, id=id_), "channel")
    except InvalidInputError:
        return False
    return True


@given(id_=IDS)
@example("ann.smith")
@example("ann@example.com")
@example("Ann Smith")
@example("jürgen")
@example("a,b")
@example("a\nb")
@example("")
@example("x" * 255)
@example("x" * 256)
def test_a_user_id_is_imported_exactly_if_a_call_takes_it(id_: str) -> None:
    assert imported("user", {"id": id_}) is user_is_taken(id_)


@given(id_=IDS, type_=st.one_of(st.just("messaging"), IDS))
@example("ann.smith+1@example.com", "messaging")
@example("a b", "messaging")
@example("general", "a.b")
@example("x" * 255, "x" * 64)
@example("x" * 256, "x" * 65)
def test_a_channel_is_imported_exactly_if_a_call_takes_its_type_and_id(
    id_: str, type_: str
) -> None:
    record: dict[str, object] = {"type": type_, "id": id_, "created_by": "anna"}

    assert imported("channel", record) is channel_is_taken(type_, id_)
