"""What the segment server is told from outside, as HERALD_* variables."""

from pydantic import Field

from herald_rpc.process.settings import ServerSettings


class SegmentSettings(ServerSettings):
    segment_listen: str = "127.0.0.1:50051"

    sizing_interval_seconds: float = Field(default=60.0, gt=0, le=86_400)
    """How long after a count of a segment's targets the next one is due."""
