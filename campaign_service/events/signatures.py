"""The headers of a request to a webhook, with the signatures of its body."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

from campaign_service.campaigns.webhooks import SECRET_PREFIX, signing_key

_SECRET_BYTES = 32


def new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(
    event_id: str, attempt: int, body: bytes, signing: Sequence[str], now: datetime
) -> Mapping[str, str]:
    """Returns the headers of Standard Webhooks, signed with each secret, and those of Stream."""
    timestamp = str(int(now.timestamp()))
    content = b".".join([event_id.encode(), timestamp.encode(), body])
    return {
        "Content-Type": "application/json",
        "User-Agent": "Herald",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_standard(secret, content) for secret in signing),
        "X-Webhook-Id": event_id,
        "X-Webhook-Attempt": str(attempt),
        "X-Signature": plain_signature(signing[0], body),
    }


def plain_signature(secret: str, body: bytes) -> str:
    """Returns Stream's signature: the HMAC-SHA256 of the body in hexadecimal."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _standard(secret: str, content: bytes) -> str:
    digest = hmac.new(signing_key(secret), content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
