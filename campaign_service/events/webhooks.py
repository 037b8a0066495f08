"""Webhooks as their callers change them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

from campaign_service.campaigns.addresses import AddressPolicy
from campaign_service.campaigns.webhooks import (
    SETTINGS_SECONDS,
    Webhook,
    WebhookAlreadyExistsError,
)
from campaign_service.events.signatures import new_secret
from campaign_service.storage.event_ports import WebhookStore

# a little longer than dispatchers use the webhooks that they have read
_SETTLED_SECONDS = SETTINGS_SECONDS + 0.1


class Webhooks:
    def __init__(
        self, store: WebhookStore, policy: AddressPolicy, *, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._policy = policy
        self._now = now

    async def create(self, webhook: Webhook) -> Webhook:
        """Creates a webhook, with a new secret if none is given.

        The same call again returns the stored webhook. Raises `WebhookAlreadyExistsError` and `AddressRefusedError`.
        """
        self._check(webhook)
        made = replace(
            webhook, id=webhook.id or str(uuid4()), secret=webhook.secret or new_secret()
        )
        stored = await self._store.create(made, self._now())
        if not stored.same_as(made) or webhook.secret not in ("", stored.secret):
            raise WebhookAlreadyExistsError(webhook.id)
        return stored

    async def update(self, webhook_id: str, change: Callable[[Webhook], Webhook]) -> Webhook:
        """Changes a webhook.

        Raises `WebhookNotFoundError`, `AddressRefusedError`, and any error of `change`.
        """

        def checked(stored: Webhook) -> Webhook:
            changed = change(stored)
            self._check(changed)
            if changed.secret != stored.secret:
                changed = replace(changed, previous_secret=None, previous_secret_until=None)
            return changed

        webhook = await self._store.update(webhook_id, checked, self._now())
        await self._settled(webhook_id)
        return webhook

    async def rotate_secret(self, webhook_id: str, secret: str, grace: timedelta) -> Webhook:
        """Gives the webhook another secret. Both sign until the grace is over.

        Raises `WebhookNotFoundError`.
        """
        now = self._now()
        made = secret or new_secret()

        def rotated(stored: Webhook) -> Webhook:
            return replace(
                stored,
                secret=made,
                previous_secret=stored.secret,
                previous_secret_until=now + grace,
            )

        webhook = await self._store.update(webhook_id, rotated, now)
        await self._settled(webhook_id)
        return webhook

    async def delete(self, webhook_id: str) -> None:
        """Deletes the webhook. No attempt begins after the return. Raises `WebhookNotFoundError`."""
        if await self._store.delete(webhook_id, self._now()):
            await asyncio.sleep(_SETTLED_SECONDS)

    async def _settled(self, webhook_id: str) -> None:
        """Returns when no sender uses an earlier state of the webhook."""
        if await self._store.is_being_sent_to(webhook_id, self._now()):
            await asyncio.sleep(_SETTLED_SECONDS)

    def _check(self, webhook: Webhook) -> None:
        # the addresses of a name are checked at each connection
        self._policy.check_host(urlsplit(webhook.url).hostname or "")
