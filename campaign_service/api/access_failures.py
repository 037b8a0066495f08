"""The errors of access as statuses with the package's reasons."""

from campaign_service.access.issuing import ScopeNotHeldError, SenderNotHeldError
from campaign_service.campaigns.errors import SenderNotAllowedError
from chat_store.access.tokens import TokenNotFoundError
from herald_rpc.access.refusals import scope_missing, sender_not_allowed
from herald_rpc.server.failures import Failure
from herald_rpc.server.principals import current_principal
from herald_rpc.wire.failures import not_found


def access_failure(error: Exception) -> Failure | None:
    """Returns what the caller receives; None for another error."""
    match error:
        case ScopeNotHeldError():
            return scope_missing(current_principal(), error.scope).failure
        case SenderNotHeldError() | SenderNotAllowedError():
            return sender_not_allowed(current_principal(), error.sender_id).failure
        case TokenNotFoundError():
            return not_found(error, "TOKEN", "token_id", error.token_id)
        case _:
            return None
