"""Templates compiled as a campaign's are, and what they are rendered with here."""

from typing import Any

import orjson

from campaign_service.campaigns.limits import MAX_ATTACHMENTS_BYTES
from campaign_service.templates.json_templates import CompiledJson
from campaign_service.templates.json_templates import compile_json as compile_json_at
from campaign_service.templates.text_templates import CompiledText
from campaign_service.templates.text_templates import compile_text as compile_text_at

NAMES = frozenset({"sender", "receiver", "channel", "custom"})
CUSTOM = {
    "country": "France",
    "age": 41,
    "score": 0.5,
    "vip": True,
    "nothing": None,
    "tags": ["b", "a", "b"],
    "address": {"city": "Paris", "zip": "75001"},
    "orders": [{"id": 1, "total": 20}, {"id": 2, "total": 5}],
    "nullary": "",
    "numbers": list(range(300)),
    "marks": {f"k{number}": number for number in range(100)},
    "lists": [[number] * 5 for number in range(40)],
    "deep": orjson.loads("[" * 16 + "]" * 16),
}
VARIABLES = {
    "sender": {"id": "acme", "name": "Acme"},
    "receiver": {"id": "ann", "name": "Ann", "teams": ["red"], **CUSTOM, "custom": CUSTOM},
    "channel": {"id": "c1", "member_count": 2},
    "custom": CUSTOM,
}


def compile_text(source: str) -> CompiledText:
    return compile_text_at(source, "text", NAMES)


def compile_json(value: Any) -> CompiledJson:
    return compile_json_at(value, "custom", NAMES, most_bytes=MAX_ATTACHMENTS_BYTES)
