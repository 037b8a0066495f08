"""Requests to a push gateway, in the JSON format of gorush."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from campaign_service.campaigns.pushes import (
    NO_ANSWER,
    NOT_SERVED,
    SENT,
    PushOutcome,
    PushReason,
    PushResult,
)
from campaign_service.events.http_client import described
from chat_store.models import PushProvider

# what gorush takes in one request unless its `max_notification` says otherwise
MOST_NOTIFICATIONS = 100
# its `platform` numbers
_PLATFORMS = {PushProvider.APN: 1, PushProvider.FIREBASE: 2, PushProvider.HUAWEI: 3}

# a gateway that answers only when the providers have (gorush's `sync`) takes seconds
_REQUEST_SECONDS = 60.0
_CONNECT_SECONDS = 5.0
# of concurrent requests
_MOST_CONNECTIONS = 8
# a report for each of 100 notifications, each with its text
_MOST_ANSWER_BYTES = 1024 * 1024

_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
# How APNs and Firebase say, through gorush, that a token is dead. `BadDeviceToken` is not among
# them: a gateway with the wrong APNs environment reports it for every device.
_UNREGISTERED = (
    "unregistered",
    "notregistered",
    "not-registered",
    "expiredtoken",
    "requested entity was not found",
)


@dataclass(frozen=True, slots=True)
class Notification:
    """One push to one device. `id` is unique among all, and the gateway reports failures by it."""

    id: str
    provider: PushProvider
    token: str = field(repr=False)
    title: str
    text: str
    data: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one notification. `error` is the gateway's own text, empty if it gave none."""

    result: PushResult
    error: str = ""


class GatewayUnavailableError(Exception):
    """The gateway has taken nothing of a request, so that it can be made again."""


class PushGateway:
    """Posts to a push gateway; `open_gateway` opens and closes it."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def post(self, notifications: Sequence[Notification]) -> Sequence[Report]:
        """Makes one request with notifications for one provider; returns a report for each.

        A request whose fate is unknown counts as failed, because its repetition could push twice.
        Raises `GatewayUnavailableError`.
        """
        body = orjson.dumps({"notifications": list(map(_json, notifications))})
        try:
            async with self._session.post(
                self._url,
                data=body,
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as response:
                status = response.status
                answer = await _content(response.content)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise GatewayUnavailableError(_told(error)) from error
        except TimeoutError:
            return [Report(NO_ANSWER, "no answer")] * len(notifications)
        except (aiohttp.ClientError, OSError) as error:
            return [Report(NO_ANSWER, described(error))] * len(notifications)
        if status in _BUSY:
            raise GatewayUnavailableError(f"HTTP {status}")
        if not 200 <= status < 300:  # noqa: PLR2004 - success in HTTP
            refused = PushResult(PushOutcome.FAILED, PushReason.REFUSED)
            return [Report(refused, f"HTTP {status}")] * len(notifications)
        return _reports(notifications, answer)


@asynccontextmanager
async def open_gateway(url: str) -> AsyncIterator[PushGateway]:
    # A new connection for each request: one that was kept may be dead, and whether the gateway has
    # read the request can't be known then.
    connector = aiohttp.TCPConnector(limit=_MOST_CONNECTIONS, force_close=True)
    timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=_CONNECT_SECONDS)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout,
        trust_env=False,
    ) as session:
        yield PushGateway(session, url)


def _json(notification: Notification) -> Mapping[str, Any]:
    return {
        "notif_id": notification.id,
        "tokens": [notification.token],
        "platform": _PLATFORMS[notification.provider],
        "title": notification.title,
        "message": notification.text,
        # Firebase takes only strings
        "data": notification.data,
    }


async def _content(stream: aiohttp.StreamReader) -> bytes:
    """Reads the answer up to its limit; what is longer is no report."""
    found = bytearray()
    while chunk := await stream.read(_MOST_ANSWER_BYTES):
        found += chunk
        if len(found) > _MOST_ANSWER_BYTES:
            return b""
    return bytes(found)


def _reports(notifications: Sequence[Notification], answer: bytes) -> Sequence[Report]:
    try:
        content = orjson.loads(answer)
    except orjson.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        # taken, by a gateway that reports nothing
        return [Report(SENT)] * len(notifications)
    if content.get("counts") == 0:
        # gorush leaves out a platform that its configuration has not enabled
        return [Report(NOT_SERVED)] * len(notifications)
    errors = _errors(content.get("logs"))
    return [
        _report(errors.get(notification.id, errors.get(notification.token)))
        for notification in notifications
    ]


def _errors(logs: object) -> Mapping[str, str]:
    """The errors by notification, and by token for gateways that do not repeat `notif_id`."""
    found: dict[str, str] = {}
    for entry in logs if isinstance(logs, list) else ():
        if isinstance(entry, dict) and entry.get("type") == "failed-push":
            keys: Iterable[object] = (entry.get("notif_id") or entry.get("token"),)
            found |= {key: str(entry.get("error", "")) for key in keys if isinstance(key, str)}
    return found


def _report(error: str | None) -> Report:
    if error is None:
        return Report(SENT)
    is_dead = any(text in error.lower() for text in _UNREGISTERED)
    reason = PushReason.UNREGISTERED if is_dead else PushReason.REFUSED
    return Report(PushResult(PushOutcome.FAILED, reason), error)


def _told(error: Exception) -> str:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {_CONNECT_SECONDS:g} s"
    return described(error)
