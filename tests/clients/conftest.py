import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from chat_store.access.scopes import Scope
from tests.harness import forkserver
from tests.harness.certificates import Authority
from tests.harness.processes import running_pair
from tests.harness.tokens import made_token


@dataclass(frozen=True, slots=True)
class ServersToCall:
    """Both servers with TLS and tokens, as the variables of the examples name them."""

    variables: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """This process's own, with these HERALD_* variables and no others."""
        outer = {name: text for name, text in os.environ.items() if not name.startswith("HERALD_")}
        return outer | dict(self.variables)


@pytest.fixture(scope="session")
def to_call(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServersToCall]:
    folder = tmp_path_factory.mktemp("clients")
    url = f"sqlite+aiosqlite:///{shutil.copy(sqlite_template, folder / 'herald.db')}"
    files = Authority(folder).issue("herald")
    token = made_token(url, *Scope)
    assert files.ca
    settings = {
        "HERALD_AUTH": "tokens",
        "HERALD_TOKEN": token,
        "HERALD_TLS_CERT": str(files.certificate),
        "HERALD_TLS_KEY": str(files.key),
        "HERALD_TLS_CA": str(files.ca),
    }
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(files.ca.read_bytes()),
        grpc.access_token_call_credentials(token),
    )
    with running_pair(url, folder, settings, forkserver.run, credentials) as pair:
        yield ServersToCall(
            {
                "HERALD_SEGMENT_TARGET": pair.segment.address,
                "HERALD_CAMPAIGN_TARGET": pair.campaign.address,
                "HERALD_TLS_CA": str(files.ca),
                "HERALD_TOKEN": token,
            }
        )
