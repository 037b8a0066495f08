"""Tokens between their messages and the domain's values."""

from datetime import datetime

from chat_store.access.scopes import Scope
from chat_store.access.tokens import MAX_NAME, MAX_SENDERS, Token, TokenSpec
from chat_store.errors import InvalidInputError, LimitExceededError
from chat_store.ids import user_target_problem
from herald.access.v1 import access_pb2 as pb
from herald_rpc.wire.fields import ids, moment, refuse, required, timestamp


def spec_from_proto(message: pb.Token, now: datetime) -> TokenSpec:
    """Raises for the first field that breaks a rule. Output-only fields are passed over."""
    name = required(message.name, "token.name", MAX_NAME)
    expires_at = moment(message, "expires_at", "token.expires_at")
    if expires_at is not None and expires_at <= now:
        raise InvalidInputError("token.expires_at", "must not be past")
    senders = ids(message.sender_ids, "token.sender_ids", MAX_SENDERS, least=0)
    for index, sender_id in enumerate(senders):
        refuse(user_target_problem(sender_id), f"token.sender_ids[{index}]")
    return TokenSpec(
        name=name,
        scopes=_scopes(message),
        sender_ids=tuple(dict.fromkeys(senders)),
        expires_at=expires_at,
    )


def token_to_proto(token: Token) -> pb.Token:
    return pb.Token(
        id=token.id,
        name=token.name,
        scopes=token.scopes,
        sender_ids=token.sender_ids,
        expires_at=timestamp(token.expires_at),
        created_at=timestamp(token.created_at),
        created_by=token.created_by,
        last_used_at=timestamp(token.last_used_at),
        revoked_at=timestamp(token.revoked_at),
    )


def _scopes(message: pb.Token) -> tuple[Scope, ...]:
    if not message.scopes:
        raise InvalidInputError("token.scopes", "is required")
    if len(message.scopes) > len(Scope):
        raise LimitExceededError("token.scopes", limit=len(Scope), given=len(message.scopes))
    for i, scope in enumerate(message.scopes):
        if scope not in set(Scope):
            known = ", ".join(Scope)
            raise InvalidInputError(f"token.scopes[{i}]", f"must be one of {known}")
    return tuple(sorted({Scope(scope) for scope in message.scopes}))
