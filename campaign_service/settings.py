"""The campaign server's settings, read from HERALD_* variables."""

from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from campaign_service.campaigns.addresses import Rules
from herald_rpc.addresses import next_address
from herald_rpc.certificates import reload_all
from herald_rpc.client.channels import target_uris
from herald_rpc.process.settings import ClientSettings, MetricsListen, ServerSettings


class CampaignSettings(ServerSettings, ClientSettings):
    campaign_listen: str = "127.0.0.1:50052"

    campaign_metrics_listen: MetricsListen = ""

    sender_metrics_listen: MetricsListen = ""
    """The same for a process that sends. The second one of a server takes the next port, and so on."""

    dispatcher_metrics_listen: MetricsListen = ""
    """The same for a process that delivers events."""

    segment_target: str = "127.0.0.1:50051"
    """One or several segment servers: `host:port` by name or address, with commas between."""

    page_size: int = Field(default=1_000, ge=1, le=10_000)
    """Targets that are sent in one transaction."""

    lease_seconds: float = Field(default=10.0, ge=1, le=600)
    """Seconds for which a sender that stopped responding keeps its shard."""

    sender_processes: int = Field(default=2, ge=0, le=64)
    """Processes of this server that send, a core each; 0: the one that answers the calls sends."""

    sender_niceness: int = Field(default=0, ge=0, le=19)
    """Niceness of these processes and of `send`; a higher one lets others go first."""

    dispatcher_processes: int = Field(default=1, ge=0, le=64)
    """Processes of this server that deliver events; 0: the one that answers the calls does."""

    sender_slots: int = Field(default=4, ge=1, le=64)
    """Campaigns, or shards of one, that a process sends at the same time at full speed."""

    max_messages_per_second: int = Field(default=0, ge=0)
    """Messages a second of all campaigns together; 0: no limit."""

    multi_tenancy: bool = False
    """Whether a receiver must be in the team of a campaign's channel template."""

    start_held: bool = False
    """Whether each start holds the database until an operator has decided."""

    monthly_quota: int = Field(default=0, ge=0)
    """Messages of all campaigns in a calendar month (UTC); 0: no limit."""

    event_retention_days: int = Field(default=7, ge=2, le=3_650)
    """Days for which events can be streamed and replayed, and attempts of webhooks queried."""

    webhook_allow: str = ""
    """Allowed addresses of webhooks: host names, networks, and the words `loopback`, `private` and
    `public`; empty: all."""

    webhook_deny: str = ""
    """Addresses that are refused though allowed. Link-local addresses are always refused."""

    nats_url: str = Field(default="", repr=False)
    """Where every event is published to JetStream: the servers of one cluster, with commas between.

    Empty: nowhere.
    """

    nats_stream: str = Field(default="HERALD", pattern=r"^[A-Za-z0-9_-]+$")
    """The JetStream stream, which only Herald writes to; created if missing."""

    push_url: str = Field(default="", repr=False)
    """Where push notifications are posted, in gorush's format; empty: nothing is pushed."""

    push_ttl_seconds: int = Field(default=3_600, ge=1, le=172_800)
    """How old a message may be to be pushed: events are kept for two days at least."""

    @field_validator("segment_target")
    @classmethod
    def _can_be_reached(cls, target: str) -> str:
        target_uris(target)
        return target

    @field_validator("webhook_allow", "webhook_deny")
    @classmethod
    def _readable(cls, rules: str) -> str:
        Rules.read(rules)
        return rules

    @field_validator("push_url")
    @classmethod
    def _can_be_posted_to(cls, url: str) -> str:
        # never with the URL in the message, because it may hold a password
        try:
            parts = urlsplit(url)
            is_usable = not url or (parts.scheme in ("http", "https") and bool(parts.hostname))
            _ = parts.port
        except ValueError:
            is_usable = False
        if not is_usable:
            raise ValueError("must be http://host:port/path or https://…")
        return url

    @model_validator(mode="after")
    def _keeps_its_token(self) -> Self:
        self.require_confidential(self.segment_target)
        return self

    def of_process(self, number: int) -> Self:
        """Returns the settings of the sender, or the dispatcher, with that number of a server."""
        listens = {
            name: next_address(listen, number)
            for name in ("sender_metrics_listen", "dispatcher_metrics_listen")
            if (listen := getattr(self, name))
        }
        return self.model_copy(update=listens)

    @property
    def on_hangup(self) -> Callable[[], None] | None:
        """As for every server, and with TLS to the segment servers alone, too."""
        return reload_all if self.tls_ca else super().on_hangup
