"""Both servers, their senders and the commands with client certificates and tokens."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from threading import Event

import grpc
import pytest

from chat_store.access.scopes import Scope
from herald.chat.v1 import chat_service_pb2
from herald_rpc.certificates import CertificateFiles
from tests.harness import forkserver, grpcurl, hello_campaign
from tests.harness.certificates import Authority
from tests.harness.grpcurl import GrpcurlError
from tests.harness.processes import Pair, Server, free_address, running_pair, servers
from tests.harness.tokens import made_token

_PEOPLE = 50
CLIENT_CERTIFICATE = "the server may refuse HERALD_TLS_CLIENT_CERT, or need it"


def settings(files: CertificateFiles, token: str = "") -> dict[str, str]:
    """One certificate for all: who serves is also who calls. `token` is for the calls."""
    return {
        "HERALD_AUTH": "tokens",
        "HERALD_TOKEN": token,
        "HERALD_TLS_CERT": str(files.certificate),
        "HERALD_TLS_KEY": str(files.key),
        "HERALD_TLS_CLIENT_CA": str(files.ca),
        "HERALD_TLS_CA": str(files.ca),
        "HERALD_TLS_CLIENT_CERT": str(files.certificate),
        "HERALD_TLS_CLIENT_KEY": str(files.key),
    }


def calling(files: CertificateFiles) -> dict[str, str]:
    """Those that are for calls alone."""
    return {
        name: text
        for name, text in settings(files).items()
        if name.startswith(("HERALD_TLS_CA", "HERALD_TLS_CLIENT_CERT", "HERALD_TLS_CLIENT_KEY"))
    }


def credentials(files: CertificateFiles, token: str) -> grpc.ChannelCredentials:
    assert files.ca
    assert files.key
    assert files.certificate
    return grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(
            files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
        ),
        grpc.access_token_call_credentials(token),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def files(authority: Authority) -> CertificateFiles:
    return authority.issue("herald")


@pytest.fixture(scope="module")
def database_url(sqlite_template: Path, folder: Path) -> str:
    return f"sqlite+aiosqlite:///{shutil.copy(sqlite_template, folder / 'herald.db')}"


@pytest.fixture(scope="module")
def service_token(database_url: str) -> str:
    return made_token(database_url, Scope.SEGMENTS_READ)


@pytest.fixture(scope="module")
def operator_token(database_url: str) -> str:
    return made_token(database_url, *Scope)


@pytest.fixture(scope="module")
def pair(
    database_url: str,
    folder: Path,
    files: CertificateFiles,
    service_token: str,
    operator_token: str,
) -> Iterator[Pair]:
    variables = {**settings(files, service_token), "HERALD_LOG_LEVEL": "DEBUG"}
    with running_pair(
        database_url, folder, variables, forkserver.run, credentials(files, operator_token)
    ) as running:
        yield running


def watch(address: str, campaign_id: str, variables: Mapping[str, str]) -> tuple[int, str, str]:
    """Runs the command, and returns its exit code and what it has written to its two outputs."""
    outer = {name: text for name, text in os.environ.items() if not name.startswith("HERALD_")}
    command = [sys.executable, "-m", "campaign_service", "watch", campaign_id, "--target", address]
    done = subprocess.run(
        command, env=outer | dict(variables), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def lines(log: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def log_of(server: Server, folder: Path) -> Path:
    return folder / f"{server.module.removesuffix('_service')}.log"


def wait_for_line(log: Path, event: str) -> dict[str, str]:
    """The test's own time-out is the bound."""
    while True:
        for line in lines(log):
            if line["event"] == event:
                return line
        Event().wait(0.05)


def test_a_campaign_is_sent_and_watched_with_certificates_and_tokens_on_every_way(
    pair: Pair,
    database_url: str,
    files: CertificateFiles,
    authority: Authority,
    folder: Path,
    operator_token: str,
) -> None:
    hello_campaign.import_people(database_url, folder / "users.jsonl", _PEOPLE)
    campaign = hello_campaign.start_for_everyone(pair)
    # the senders call with the new pair, or with the old one while only half of it is there
    authority.issue("herald")

    code, out, _ = watch(pair.campaign.address, campaign.id, settings(files, operator_token))

    assert code == 0
    assert out.splitlines()[-1].startswith(f"completed, {_PEOPLE} of {_PEOPLE} (100%)")
    host = pair.segment.address
    pem = ["-cacert", str(files.ca), "-cert", str(files.certificate), "-key", str(files.key)]
    bearer = ["-H", f"authorization: Bearer {operator_token}"]
    assert "herald.segment.v1.SegmentService" in grpcurl.run(*pem, *bearer, host, "list")
    with pytest.raises(GrpcurlError):
        # it tries again and again to connect
        grpcurl.run("-connect-timeout", "1", "-cacert", str(files.ca), *bearer, host, "list")
    with pytest.raises(GrpcurlError, match="needs a token"):
        grpcurl.run(*pem, host, "list")


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("change", "error_text"),
    [
        (dict.fromkeys(settings(CertificateFiles()), ""), "a server with TLS needs HERALD_TLS"),
        ({"HERALD_TOKEN": ""}, "ERROR_REASON_TOKEN_MISSING: "),
        ({"HERALD_TLS_CLIENT_CERT": "", "HERALD_TLS_CLIENT_KEY": ""}, CLIENT_CERTIFICATE),
        ({"HERALD_TLS_SERVER_NAME": "elsewhere.internal"}, "Hostname Verification Check failed"),
        ({"HERALD_TLS_CLIENT_KEY": ""}, "needs HERALD_TLS_CLIENT_KEY"),
        ({"HERALD_TLS_CA": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
    ],
    ids=[
        "in plain text",
        "without a token",
        "without a certificate",
        "by another name",
        "with half a pair",
        "without the CA's file",
    ],
)
def test_a_client_with_other_settings_is_told_why_it_can_not_connect(
    change: Mapping[str, str],
    error_text: str,
    pair: Pair,
    files: CertificateFiles,
    operator_token: str,
) -> None:
    variables = settings(files, operator_token) | dict(change)

    code, out, error = watch(pair.campaign.address, "spring", variables)

    assert code != 0
    assert out == ""
    assert error_text in error
    assert "Traceback" not in error


def test_a_hangup_has_the_servers_read_new_certificates_and_go_on(
    pair: Pair, folder: Path, authority: Authority
) -> None:
    for server in (pair.segment, pair.campaign):
        server.send_signal(signal.SIGHUP)
        wait_for_line(log_of(server, folder), "the certificates are unchanged")

    authority.issue("herald")
    for server in (pair.segment, pair.campaign):
        server.send_signal(signal.SIGHUP)
        wait_for_line(log_of(server, folder), "new certificates")

    request = chat_service_pb2.QueryUsersRequest()
    pair.chat.QueryUsers(request, timeout=hello_campaign.CALL_SECONDS)


def _in_plain_text(_: CertificateFiles, _authority: Authority) -> Mapping[str, str]:
    return {}


def _by_another_name(files: CertificateFiles, _authority: Authority) -> Mapping[str, str]:
    return {**calling(files), "HERALD_TLS_SERVER_NAME": "elsewhere.internal"}


def _without_a_certificate(files: CertificateFiles, _authority: Authority) -> Mapping[str, str]:
    return {"HERALD_TLS_CA": str(files.ca)}


def _with_an_expired_certificate(_: CertificateFiles, authority: Authority) -> Mapping[str, str]:
    return calling(authority.issue("expired", valid=-timedelta(hours=1)))


def _with_a_foreign_certificate(files: CertificateFiles, authority: Authority) -> Mapping[str, str]:
    foreign = Authority(authority.folder / "foreign").issue("foreign")
    return {**calling(foreign), "HERALD_TLS_CA": str(files.ca)}


def _that_trusts_another_ca(files: CertificateFiles, authority: Authority) -> Mapping[str, str]:
    foreign = Authority(authority.folder / "foreign").issue("foreign")
    return {**calling(files), "HERALD_TLS_CA": str(foreign.ca)}


@pytest.mark.nightly_on("another", "certificate")
@pytest.mark.parametrize(
    ("variables", "error", "server_line"),
    [
        (_in_plain_text, "a server with TLS needs HERALD_TLS_CA", "WRONG_VERSION_NUMBER"),
        (_by_another_name, "Hostname Verification Check failed", ""),
        (_without_a_certificate, CLIENT_CERTIFICATE, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        (_with_an_expired_certificate, CLIENT_CERTIFICATE, "certificate has expired"),
        (_with_a_foreign_certificate, CLIENT_CERTIFICATE, "unable to get local issuer certificate"),
        (_that_trusts_another_ca, "CERTIFICATE_VERIFY_FAILED", ""),
    ],
    ids=lambda value: getattr(value, "__name__", "").strip("_"),
)
def test_a_campaign_server_logs_why_it_can_not_reach_the_segment_server(
    variables: Callable[[CertificateFiles, Authority], Mapping[str, str]],
    error: str,
    server_line: str,
    pair: Pair,
    database_url: str,
    files: CertificateFiles,
    authority: Authority,
    folder: Path,
    tmp_path: Path,
) -> None:
    (folder / "foreign").mkdir(exist_ok=True)
    address = pair.segment.address
    given = variables(files, authority)
    _, other = servers(
        database_url, address, free_address(), settings=given, logs=tmp_path, run=forkserver.run
    )
    with other:
        line = wait_for_line(log_of(other, tmp_path), "the segment service can't be reached")

    assert line["target"] == address
    assert error in line["error"]
    # the line of gRPC's own, which has no other form
    assert server_line in log_of(pair.segment, folder).read_text()
    assert "Traceback" not in log_of(other, tmp_path).read_text()
    assert "Traceback" not in log_of(pair.segment, folder).read_text()


@pytest.mark.nightly
def test_no_secret_is_in_the_logs_though_they_say_everything(
    pair: Pair, folder: Path, files: CertificateFiles, service_token: str, operator_token: str
) -> None:
    assert files.key
    assert files.ca
    wrong = service_token[:-1] + ("a" if service_token[-1] != "a" else "b")
    secrets = [
        *(token.rpartition("_")[2] for token in (service_token, operator_token, wrong)),
        files.key.read_text().splitlines()[1],
    ]
    pem = ["-cacert", str(files.ca), "-cert", str(files.certificate), "-key", str(files.key)]

    for server in (pair.segment, pair.campaign):
        with pytest.raises(GrpcurlError):
            grpcurl.run(*pem, "-H", f"authorization: Bearer {wrong}", server.address, "list")
        assert wait_for_line(log_of(server, folder), "call refused")["level"] == "debug"
        log = log_of(server, folder).read_text()
        assert [secret for secret in secrets if secret in log] == []


@pytest.mark.nightly
def test_a_server_beyond_loopback_that_may_be_insecure_serves_and_warns_at_each_start(
    sqlite_url: str, tmp_path: Path
) -> None:
    address = f"0.0.0.0:{free_address().rpartition(':')[2]}"
    variables = {
        "HERALD_DATABASE_URL": sqlite_url,
        "HERALD_SEGMENT_LISTEN": address,
        "HERALD_INSECURE": "true",
    }
    log = tmp_path / "segment.log"
    for starts in (1, 2):
        with Server("segment_service", address, variables, log, forkserver.run):
            pass
        warnings = [line for line in lines(log) if line["level"] == "warning"]
        assert [line["event"] for line in warnings] == [
            "insecure: others than this machine reach the server"
        ] * starts


@pytest.mark.nightly
@pytest.mark.parametrize("module", ["segment_service", "campaign_service"])
def test_a_server_beyond_loopback_without_tls_ends_before_it_serves(
    module: str, sqlite_url: str
) -> None:
    outer = {name: text for name, text in os.environ.items() if not name.startswith("HERALD_")}
    variables = {
        "HERALD_DATABASE_URL": sqlite_url,
        f"HERALD_{module.removesuffix('_service').upper()}_LISTEN": "0.0.0.0:0",
    }

    done = subprocess.run(
        [sys.executable, "-m", module],
        env=outer | variables,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    last = json.loads(done.stderr.splitlines()[-1])
    assert last["event"] == "can't start"
    assert "HERALD_INSECURE=true" in last["error"]
