"""Opaque tokens for pages and streams: a position, bound to the arguments it belongs to.

A token grants nothing: it names a place in a result that its holder may ask for anyway. The
digest in it is unkeyed, so that every replica reads every token. It catches damage and mix-ups,
not forgery.
"""

import base64
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeAlias

import orjson

Position: TypeAlias = "str | int | float | bool | Sequence[Position] | None"
"""Where to go on: finite numbers, integers of 64 bits; sequences come back as lists."""

_VERSION = b"\x01"
_DIGEST_BYTES = 12


class InvalidTokenError(Exception):
    """The token is damaged, of another version, or was given out by another call."""


def encode(kind: str, bound_to: Sequence[object], position: Position) -> str:
    """Return the token that stands for `position` in the results of one call.

    `kind` says which call, `bound_to` with which arguments: whatever orjson can write, in an
    order that stays. The same arguments must be given to `decode`.
    """
    payload = orjson.dumps(position)
    return _text(_VERSION + _digest(kind, bound_to, payload) + payload)


def decode(kind: str, bound_to: Sequence[object], token: str) -> Position:
    """Return the position in a token of this kind with these arguments.

    The empty string is no token. A forged token can hold any JSON, so callers check the shape of
    what they get.

    Raises `InvalidTokenError` for what `encode` has not returned for the same arguments.
    """
    raw = _raw(token)
    digest_end = len(_VERSION) + _DIGEST_BYTES
    payload = raw[digest_end:]
    if raw[:digest_end] != _VERSION + _digest(kind, bound_to, payload):
        raise InvalidTokenError
    try:
        position: Position = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise InvalidTokenError from error
    return position


def _digest(kind: str, bound_to: Sequence[object], payload: bytes) -> bytes:
    # JSON ends where the payload begins: no two triples share their bytes.
    context = orjson.dumps((kind, bound_to), option=orjson.OPT_SORT_KEYS)
    return blake2b(context + payload, digest_size=_DIGEST_BYTES).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(token: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError as error:
        raise InvalidTokenError from error
    # Base64 has several spellings of the same bytes, and Python reads more still.
    if _text(raw) != token:
        raise InvalidTokenError
    return raw
