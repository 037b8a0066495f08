"""The segment server's settings, read from HERALD_* variables."""

from pydantic import Field

from herald_rpc.process.settings import MetricsListen, ServerSettings


class SegmentSettings(ServerSettings):
    segment_listen: str = "127.0.0.1:50051"

    segment_metrics_listen: MetricsListen = ""

    sizing_interval_seconds: float = Field(default=60.0, gt=0, le=86_400)
    """Seconds from one count of a segment's targets to the next."""
