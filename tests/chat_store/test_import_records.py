import json
from typing import Any

import pytest

from chat_store.imports.fields import RecordError
from chat_store.imports.records import MAX_LINE_BYTES, Record, read_line, read_record


def line(type_: str, **data: Any) -> bytes:
    return json.dumps({"type": type_, "data": data}).encode() + b"\n"


def user(id_: str, **data: Any) -> bytes:
    return line("user", id=id_, **data)


def channel(**data: Any) -> bytes:
    return line("channel", **{"type": "messaging", "id": "general", "created_by": "anna", **data})


def member(**data: Any) -> bytes:
    named = {"channel_type": "messaging", "channel_id": "general", "user_id": "anna"}
    return line("member", **{**named, **data})


def device(**data: Any) -> bytes:
    return line("device", **{"id": "d", "user_id": "anna", "push_provider_type": "apn", **data})


def message(**data: Any) -> bytes:
    named = {"channel_type": "messaging", "channel_id": "general", "user": "anna"}
    return line("message", **{"id": "m", **named, **data})


def read(record: bytes) -> Record:
    return read_record(*read_line(record))


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels else {}


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (b'{"data": {}}', "type required"),
        (b'{"type": "user"}', "data required"),
        (line("user", name="x"), "user.id required"),
        (user("a" * 256), "user.id max length exceeded (255)"),
        (user("a,b"), "user.id must not contain a comma"),
        (line("user", id=7), "user.id must be a string"),
        (user("a", online=True), "user.online is a reserved field"),
        (user("a", pk=1), "user.pk is a reserved field"),
        (user("a", banned="yes"), "user.banned must be a boolean"),
        (user("a", teams="red"), "user.teams must be a list"),
        (user("a", teams=["x"] * 251), "user.teams max items exceeded (250)"),
        (user("a", teams=["ä" * 51]), "user.teams max length exceeded (100)"),
        (user("a", teams=[""]), "user.teams must be a list of strings"),
        (user("a", push_preferences=[]), "user.push_preferences must be an object"),
        (
            user("a", created_at="yesterday"),
            "user.created_at must be an RFC 3339 date with a zone (2026-01-31T12:00:00Z)",
        ),
        (user("a", created_at="2026-02-30T00:00:00Z"), "user.created_at is not a valid date"),
        (user("a", note="x" * 5_120), "user.custom max size exceeded (5120)"),
        (user("a", note="a\0b"), "user.custom contains a NUL character"),
        (user("a", name="a\0b"), "user.name contains a NUL character"),
        (user("a", n=[2**53]), "user.custom whole numbers of 2^53 and more lose digits"),
        (user("a", n=-1e300), "user.custom whole numbers of 2^53 and more lose digits"),
        (device(id=None), "device.id required"),
        (device(id="x" * 256), "device.id max length exceeded (255)"),
        (device(id="a\0b"), "device.id contains a NUL character"),
        (device(user_id=None), "device.user_id required"),
        (device(user_id="x" * 256), "device.user_id max length exceeded (255)"),
        (device(push_provider_type=None), "device.push_provider_type required"),
        (
            device(push_provider_type="fax"),
            'device.push_provider_type invalid ("firebase|apn|huawei|xiaomi" allowed)',
        ),
        (device(push_provider_name=7), "device.push_provider_name must be a string"),
        (device(created_at="2026-02-30T00:00:00Z"), "device.created_at is not a valid date"),
        (device(pk=1), "device.pk is a reserved field"),
        (line("channel", id="x", created_by="anna"), "channel.type required"),
        (channel(created_by=None), "channel.created_by required"),
        (channel(type="a:b"), r'channel.type invalid ("^[A-Za-z0-9_-]+$" allowed)'),
        (channel(id="x" * 256), "channel.id max length exceeded (255)"),
        (channel(id=None), "either channel.id or channel.member_ids required"),
        (channel(member_ids=["anna"]), "either channel.id or channel.member_ids required"),
        (channel(config={}), "channel.config is a reserved field"),
        (member(user_id=None), "member.user_id required"),
        (member(channel_id=None), "either member.channel_id or member.channel_member_ids required"),
        (member(channel_role="x" * 65), "member.channel_role max length exceeded (64)"),
        (message(id="a%b"), 'message.id invalid ("^[^,%]*$" allowed)'),
        (message(user=None), "message.user required"),
        (message(text="x" * 20_001), "message.text max length exceeded (20000)"),
        (message(type="x"), 'message.type invalid ("regular|reply|deleted|system" allowed)'),
        (message(type="reply"), "message.parent_id required"),
        (
            message(type="deleted"),
            "message.deleted_at required if, and only if, message.type is deleted",
        ),
        (message(attachments=[{}] * 31), "message.attachments max items exceeded (30)"),
        (message(attachments=["x"]), "message.attachments must be a list of objects"),
        (
            message(attachments=[{"a": 2**60}]),
            "message.attachments whole numbers of 2^53 and more lose digits",
        ),
        (message(reply_count=1), "message.reply_count is a reserved field"),
        (user("a", **nested(20)), "user.custom max depth exceeded (20)"),
        (b" " * (MAX_LINE_BYTES + 1), "line max length exceeded (4194304)"),
        (line("channel_ban"), 'type "channel_ban" is not imported'),
        (line("x" * 1_000), f'type "{"x" * 64}" is not imported'),
        (b'{"type": "user", "data": {"id": "\\ud800"}}', "invalid JSON: …"),
        (b'{"type": "user", "data": {"id": "a", "n": NaN}}', "invalid JSON: …"),
        (b'{"type": "user", "data": {"id": "a", "n": 1e400}}', "invalid JSON: …"),
    ],
)
def test_a_bad_record_is_refused_in_the_formats_words(record: bytes, error: str) -> None:
    with pytest.raises(RecordError) as caught:
        read(record)

    error_text = str(caught.value)
    assert (
        error_text.startswith(error.removesuffix("…"))
        if error.endswith("…")
        else error_text == error
    )


@pytest.mark.parametrize(
    "record",
    [
        user("a" * 255),
        user("@a-b_c9"),
        user("a", note="x" * (5 * 1024 - len('{"note":""}'))),
        user("a", n=[2**53 - 1, 1 - 2**53, 0.5]),
        user("a", note="\\u0000"),
        user("a", **nested(19)),
        user("a", name=None, teams=None, custom=None, created_at=None, banned=None),
        user("a", teams=["x" * 100] * 250),
        device(id="😀" * 255, push_provider_name=None, created_at=None, disabled=True),
        channel(id="x" * 255, type="y" * 64),
        channel(id="ann+news@example.com-8c6e.7"),
        member(channel_id=None, channel_member_ids=["anna", "bob"]),
        message(id="m" * 255, text="ä" * 20_000, attachments=[{}] * 30),
        message(type="reply", parent_id="p"),
        message(type="deleted", deleted_at="2026-01-01T00:00:00Z"),
    ],
)
def test_what_the_format_allows_is_read(record: bytes) -> None:
    read(record)
