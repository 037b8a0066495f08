"""Tokens made as an operator does, and channels that bring one along."""

import grpc
from typer.testing import CliRunner

from campaign_service.__main__ import app
from chat_store.access.scopes import Scope


def made_token(database_url: str, *scopes: Scope) -> str:
    asked = [part for scope in scopes for part in ("--scope", scope)]
    made = CliRunner().invoke(
        app, ["token", "create", "tests", *asked, "--database-url", database_url]
    )
    assert made.exit_code == 0, made.output
    return made.stdout.splitlines()[0]


def on_loopback(token: str) -> grpc.ChannelCredentials:
    """Those of a caller with a token, for a server of this machine in plain text."""
    return grpc.composite_channel_credentials(
        grpc.local_channel_credentials(), grpc.access_token_call_credentials(token)
    )
