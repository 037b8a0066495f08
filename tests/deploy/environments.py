"""Environments of deployments, given to the code that will read them."""

import os
from collections.abc import Mapping

import pytest

from campaign_service.settings import CampaignSettings
from herald_rpc.addresses import is_loopback
from herald_rpc.process.settings import ServerSettings, load
from segment_service.settings import SegmentSettings

SETTINGS: Mapping[str, type[ServerSettings]] = {
    "segment": SegmentSettings,
    "campaign": CampaignSettings,
    "send": CampaignSettings,
    "dispatch": CampaignSettings,
    "migrate": ServerSettings,
}


def starts(command: str, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Asserts that the command knows every variable, and may listen where it is told to."""
    for name in [name for name in os.environ if name.startswith("HERALD_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load(SETTINGS[command])
    address = {"segment": "segment_listen", "campaign": "campaign_listen"}.get(command)
    if address and not is_loopback(getattr(settings, address)):
        protection = settings.protection
        assert protection.insecure or (protection.tls and protection.tokens)
