"""`python -m segment_service`: the segment server as a process."""

import asyncio

import structlog
import typer

from chat_store.errors import ChatStoreError, for_operators
from herald_rpc.process import logs, runtime
from herald_rpc.process.otlp import traced
from herald_rpc.process.settings import load
from herald_rpc.server import service_manager
from herald_rpc.server.serving import (
    LAST_RESORT_SECONDS,
    CannotListenError,
    RunningServer,
    stop_signal,
)
from segment_service.server import run_until
from segment_service.settings import SegmentSettings

logger = structlog.get_logger("segment_service")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main() -> None:
    """Serve segments and the chat store until a stop signal, as the HERALD_* variables say.

    Exit code 0: stopped. 1: it could not start. 2: a variable is wrong.
    """
    settings = load(SegmentSettings)
    logs.configure(settings.log_level, settings.log_format)
    logger.info("settings", **settings.described())
    runtime.tune()
    try:
        with traced("herald-segment"):
            asyncio.run(_serve(settings))
    except (ChatStoreError, CannotListenError) as error:
        logger.error("can't start", error=for_operators(error))  # noqa: TRY400 - the text says it all
        raise typer.Exit(1) from error


async def _serve(settings: SegmentSettings) -> None:
    async with stop_signal(
        settings.grace_seconds + LAST_RESORT_SECONDS, settings.on_hangup
    ) as stop:
        await run_until(stop, settings, _announce)
    logger.info("stopped")


def _announce(server: RunningServer) -> None:
    logger.info("listening", address=server.address)
    service_manager.notify(service_manager.READY, f"STATUS=listening on {server.address}")


if __name__ == "__main__":
    app()
