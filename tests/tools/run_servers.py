"""`make run`: both servers on ./data, to be used, until ^C."""

import os
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import NoReturn

import grpc
from pydantic import ValidationError

from herald_rpc.certificates import CertificateError, CertificateFiles, CertificateWatch
from herald_rpc.process.settings import ClientSettings
from tests.harness.processes import Server, ServerError, servers

_DATABASE = "sqlite+aiosqlite:///data/herald.db"
_SEGMENT = "127.0.0.1:50051"
_CAMPAIGN = "127.0.0.1:50052"
_LOOK_SECONDS = 1.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Returns 0 after ^C or SIGTERM, 1 when a server could not start or ended by itself."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("HERALD_")}
    if settings.get("HERALD_TLS_CERT") and not settings.get("HERALD_TLS_CA"):
        print("HERALD_TLS_CERT needs HERALD_TLS_CA: the servers call each other", file=sys.stderr)
        return 1
    try:
        security = ClientSettings().channel_security
        credentials = _credentials(security.files)
    except (CertificateError, ValidationError) as error:
        print(error, file=sys.stderr)
        return 1
    segment, campaign = servers(
        settings.get("HERALD_DATABASE_URL") or _DATABASE,
        settings.get("HERALD_SEGMENT_LISTEN") or _SEGMENT,
        settings.get("HERALD_CAMPAIGN_LISTEN") or _CAMPAIGN,
        settings=settings,
        credentials=credentials,
        server_name=security.server_name,
    )
    for number in _STOP_SIGNALS:
        # a shell's job in the background begins with SIGINT ignored
        signal.signal(number, _stop)
    try:
        # the pool last: its threads wait for the ends of the servers
        with ThreadPoolExecutor(2) as pool, segment, ExitStack() as stopping:
            # a database that was restored is held, and its servers are up
            campaign.start(held=None)
            stopping.callback(campaign.stop)
            print(_greeting(segment, campaign, settings), flush=True)
            try:
                ends = [pool.submit(server.wait) for server in (segment, campaign)]
                # not for ever at once: a signal in the moment before the wait does not end it
                while not wait(ends, _LOOK_SECONDS, FIRST_COMPLETED).done:
                    pass
            except KeyboardInterrupt:
                print("stopping", flush=True)
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _stop(*_: object) -> NoReturn:
    # make passes SIGTERM on to who has it already: a second one must not cut the stop short
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _credentials(files: CertificateFiles) -> grpc.ChannelCredentials | None:
    """Those with which the servers call each other, and with which their health is asked for."""
    if not files.ca:
        return None
    found = CertificateWatch(files).certificates
    return grpc.ssl_channel_credentials(found.ca, found.key, found.chain)


def _greeting(segment: Server, campaign: Server, settings: Mapping[str, str]) -> str:
    options = {
        "HERALD_TLS_CA": "-cacert {}",
        "HERALD_TLS_CLIENT_CERT": "-cert {}",
        "HERALD_TLS_CLIENT_KEY": "-key {}",
    }
    given = [text.format(settings[name]) for name, text in options.items() if settings.get(name)]
    if settings.get("HERALD_AUTH") == "tokens":
        given.append('-H "authorization: Bearer $TOKEN"')
    how = " ".join(given if settings.get("HERALD_TLS_CA") else ["-plaintext", *given])
    return f"""
Herald is up. ^C stops it.

  SegmentService, ChatService     {segment.address}
  CampaignService, EventService   {campaign.address}

Try:

  grpcurl {how} -d '{{"segment": {{"type": "SEGMENT_TYPE_USER", "name": "Everyone", "all_users": true}}}}' \\
    {segment.address} herald.segment.v1.SegmentService/CreateSegment
"""


if __name__ == "__main__":
    sys.exit(main())
