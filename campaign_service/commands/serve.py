"""`python -m campaign_service`: the campaign server as a process, with its senders and dispatchers."""

import asyncio

import structlog

from campaign_service.events.worker_processes import start_dispatchers
from campaign_service.sending.worker_processes import start_senders
from campaign_service.server import run_until
from campaign_service.settings import CampaignSettings
from chat_store.errors import ChatStoreError, for_operators
from herald_rpc.certificates import CertificateError
from herald_rpc.process import runtime
from herald_rpc.process.otlp import traced
from herald_rpc.server import service_manager
from herald_rpc.server.serving import (
    LAST_RESORT_SECONDS,
    CannotListenError,
    RunningServer,
    stop_signal,
)

logger = structlog.get_logger("campaign_service")


def serve(settings: CampaignSettings) -> int:
    """Serves until a stop signal, and returns the exit code: 1 if it could not start."""
    runtime.tune()
    try:
        with traced("herald-campaign"):
            asyncio.run(_until_stopped(settings))
    except (ChatStoreError, CannotListenError, CertificateError) as error:
        logger.error("can't start", error=for_operators(error))  # noqa: TRY400 - the text says it all
        return 1
    return 0


async def _until_stopped(settings: CampaignSettings) -> None:
    async with stop_signal(
        settings.grace_seconds + LAST_RESORT_SECONDS, settings.on_hangup
    ) as stop:
        async with start_senders(settings) as senders, start_dispatchers(settings) as dispatchers:
            await run_until(stop, settings, senders, dispatchers, _announce)
        logger.info("stopped")


def _announce(server: RunningServer) -> None:
    logger.info("listening", address=server.address)
    service_manager.notify(service_manager.READY, f"STATUS=listening on {server.address}")
