"""What the campaign server is told from outside, as HERALD_* variables."""

from collections.abc import Callable
from typing import Self

from pydantic import Field, field_validator, model_validator

from campaign_service.campaigns.addresses import Rules
from herald_rpc.certificates import reload_all
from herald_rpc.client.channels import target_uri
from herald_rpc.process.settings import ClientSettings, ServerSettings


class CampaignSettings(ServerSettings, ClientSettings):
    campaign_listen: str = "127.0.0.1:50052"

    segment_target: str = "127.0.0.1:50051"
    """One or several segment servers: `host:port`, or numeric addresses with commas between."""

    page_size: int = Field(default=1_000, ge=1, le=10_000)
    """How many targets are sent in one transaction."""

    lease_seconds: float = Field(default=10.0, ge=1, le=600)
    """How long a sender that went silent keeps its work from others."""

    sender_processes: int = Field(default=2, ge=0, le=64)
    """How many processes of this server send, a core each; 0: the one that answers the calls."""

    sender_niceness: int = Field(default=0, ge=0, le=19)
    """How far these processes, and those of `send`, let others go first: `nice`'s number."""

    sender_slots: int = Field(default=4, ge=1, le=64)
    """How many campaigns, or shards of one, a process sends at the same time at full speed."""

    max_messages_per_second: int = Field(default=0, ge=0)
    """How many messages all campaigns together may send in a second; 0: as many as they can."""

    multi_tenancy: bool = False
    """Whether a receiver must be in the team of a campaign's channel template."""

    start_held: bool = False
    """Whether each start holds the database until an operator has decided."""

    monthly_quota: int = Field(default=0, ge=0)
    """How many messages all campaigns may send in a calendar month (UTC); 0: as many as wanted."""

    event_retention_days: int = Field(default=7, ge=2, le=3_650)
    """How long events can be streamed and replayed, and attempts of webhooks looked at."""

    webhook_allow: str = ""
    """Where webhooks may go: host names, networks, and `loopback`, `private`, `public`; empty: anywhere."""

    webhook_deny: str = ""
    """Where they may not go, though it is allowed. Link-local addresses are always denied."""

    nats_url: str = Field(default="", repr=False)
    """Where every event is published to JetStream; empty: nowhere."""

    nats_stream: str = Field(default="HERALD", pattern=r"^[A-Za-z0-9_-]+$")
    """The JetStream stream, which is Herald's alone; created if it is missing."""

    @field_validator("segment_target")
    @classmethod
    def _can_be_reached(cls, target: str) -> str:
        target_uri(target)
        return target

    @field_validator("webhook_allow", "webhook_deny")
    @classmethod
    def _readable(cls, rules: str) -> str:
        Rules.read(rules)
        return rules

    @model_validator(mode="after")
    def _keeps_its_token(self) -> Self:
        self.require_confidential(self.segment_target)
        return self

    @property
    def on_hangup(self) -> Callable[[], None] | None:
        """As for every server, and with TLS to the segment servers alone, too."""
        return reload_all if self.tls_ca else super().on_hangup
