import pytest

from tests.harness import readme_tour
from tests.harness.processes import Pair


@pytest.mark.nightly_on("postgresql")
def test_every_command_of_the_readmes_tour_works(pair: Pair) -> None:
    ports = readme_tour.walk(pair.segment.address, pair.campaign.address)

    assert set(ports) == {"50051", "50052"}
