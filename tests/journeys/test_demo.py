from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from herald.campaign.v1 import campaign_pb2
from tests.harness import forkserver
from tests.tools import demo


@pytest.mark.nightly
def test_the_demo_works_and_works_again_over_what_it_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / "demo"

    for _ in range(2):
        output = StringIO()
        campaign = demo.run(folder, 400, Console(file=output, width=100), forkserver.run)

        assert campaign.stats.messages_sent == campaign.stats.targets_total > 0
        assert "I'm Maria!" in output.getvalue()
        assert "verified" in output.getvalue()


@pytest.mark.parametrize(
    ("status", "sent", "expected"),
    [
        (campaign_pb2.CAMPAIGN_STATUS_COMPLETED, 2, 3),
        (campaign_pb2.CAMPAIGN_STATUS_COMPLETED, 4, 3),
        (campaign_pb2.CAMPAIGN_STATUS_COMPLETED, 0, 0),
        (campaign_pb2.CAMPAIGN_STATUS_STOPPED, 3, 3),
    ],
)
def test_the_demo_fails_unless_the_campaign_is_complete_and_exact(
    status: campaign_pb2.CampaignStatus.ValueType, sent: int, expected: int
) -> None:
    campaign = campaign_pb2.Campaign(
        status=status, stats=campaign_pb2.CampaignStats(messages_sent=sent)
    )

    with pytest.raises(demo.DemoError):
        demo._verify(campaign, expected)
