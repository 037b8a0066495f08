"""Opaque tokens for pages and streams: a position, bound to the arguments it belongs to.

A token grants nothing: it is a position in a result that its holder may request anyway. The
digest in it is unkeyed, so that every replica reads every token. It catches damage and mix-ups,
not forgery.
"""

import base64
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeAlias

import orjson

Position: TypeAlias = "str | int | float | bool | Sequence[Position] | None"
"""Where the next page begins: finite numbers, 64-bit integers; sequences decode as lists."""

_VERSION = b"\x01"
_DIGEST_BYTES = 12


class InvalidTokenError(Exception):
    """The token is damaged, of another version, or from another call."""


def encode(kind: str, bound_to: Sequence[object], position: Position) -> str:
    """Returns the token of `position` in the results of one call.

    `kind` names the call, and `bound_to` are its arguments: values that orjson can write, in a
    fixed order. `decode` needs the same arguments.
    """
    payload = orjson.dumps(position)
    return _text(_VERSION + _digest(kind, bound_to, payload) + payload)


def decode(kind: str, bound_to: Sequence[object], token: str) -> Position:
    """Returns the position in a token of this kind with these arguments.

    The empty string is not a token. A forged token can hold any JSON, so callers check the shape
    of the position.

    Raises `InvalidTokenError` unless `encode` returns the token for the same arguments.
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
    # The context's JSON ends where the payload begins, so no two triples have the same bytes.
    context = orjson.dumps((kind, bound_to), option=orjson.OPT_SORT_KEYS)
    return blake2b(context + payload, digest_size=_DIGEST_BYTES).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(token: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError as error:
        raise InvalidTokenError from error
    # Base64 can write the same bytes in several ways, and Python accepts even more.
    if _text(raw) != token:
        raise InvalidTokenError
    return raw
