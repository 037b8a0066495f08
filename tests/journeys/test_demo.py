import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from io import StringIO
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console

from herald.campaign.v1 import campaign_pb2
from tests.harness import forkserver
from tests.tools import demo


def core_packages() -> set[str]:
    """The distributions that `pip install .` brings, under their normal names."""
    found: set[str] = set()
    left = [Requirement("herald-campaigns")]
    while left:
        wanted = left.pop()
        if wanted.name in found:
            continue
        found.add(canonicalize_name(wanted.name))
        for text in requires(wanted.name) or ():
            needed = Requirement(text)
            extras = wanted.extras or {""}
            if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in extras):
                left.append(needed)
    return found


def test_the_demo_needs_no_package_of_the_development_environment() -> None:
    command = (
        "import sys; at_start = {*sys.modules}; import tests.tools.demo; "
        "print(*{name.split('.')[0] for name in sys.modules.keys() - at_start})"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )

    core, owners = core_packages(), packages_distributions()
    of_others = {
        package
        for package in done.stdout.split()
        if package in owners and core.isdisjoint(map(canonicalize_name, owners[package]))
    }
    assert "grpc" in done.stdout.split()
    # gRPC itself loads these if they are there
    assert of_others - {"grpc_tools"} == set()


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
