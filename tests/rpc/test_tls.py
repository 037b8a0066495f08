"""Whoever has no certificate of the right CA reaches no handler; new certificates need no restart."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from herald_rpc.certificates import CertificateError, CertificateFiles, CertificateWatch, reload_all
from herald_rpc.client.channels import UNPROTECTED, ChannelSecurity, open_channels
from herald_rpc.client.picker import ChannelPicker
from herald_rpc.client.secure_channel import SecureChannel
from herald_rpc.server.serving import CannotListenError, Protection
from tests.harness.certificates import Authority
from tests.rpc import raw_service
from tests.rpc.raw_service import NAME, running


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Counted:
    """A method that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    @property
    def methods(self) -> dict[str, Any]:
        async def answer(_request: bytes, _context: Any) -> bytes:
            self.calls += 1
            return b"here"

        return {"Ask": raw_service.unary(answer)}


async def ask(channel: grpc.aio.Channel) -> bytes:
    method: Any = channel.unary_unary(f"/{NAME}/Ask", None, None)
    answer: bytes = await method(b"", timeout=60)
    return answer


@asynccontextmanager
async def open_channel(
    target: str, security: ChannelSecurity = UNPROTECTED
) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channels(target, security) as channels:
        (channel,) = channels.values()
        yield channel


def server_alone(files: CertificateFiles) -> Protection:
    """TLS without client certificates."""
    return Protection(replace(files, ca=None))


async def test_a_client_with_a_certificate_of_the_ca_is_answered(authority: Authority) -> None:
    server, client = authority.issue("server"), authority.issue("client", "sender@herald")

    async with (
        running(Counted().methods, protection=Protection(server)) as service,
        open_channel(service.server.address, ChannelSecurity(client)) as channel,
    ):
        assert await ask(channel) == b"here"


async def test_without_a_client_ca_a_client_needs_no_certificate(authority: Authority) -> None:
    async with (
        running(Counted().methods, protection=server_alone(authority.issue("server"))) as service,
        open_channel(
            service.server.address, ChannelSecurity(CertificateFiles(ca=authority.file))
        ) as channel,
    ):
        assert await ask(channel) == b"here"


async def test_servers_of_a_list_of_addresses_are_known_by_the_given_name(
    authority: Authority,
) -> None:
    server = server_alone(authority.issue("server", "segment.internal"))
    counted = Counted()

    async with (
        running(counted.methods, protection=server) as one,
        running(counted.methods, protection=server) as other,
        open_channel(
            f"{one.server.address},{other.server.address}",
            ChannelSecurity(CertificateFiles(ca=authority.file), server_name="segment.internal"),
        ) as channel,
    ):
        for _ in range(4):
            assert await ask(channel) == b"here"


async def test_several_host_names_are_called_with_tls_each_by_its_own(
    authority: Authority,
) -> None:
    counted = Counted()
    server = authority.issue("server", "localhost")
    client = authority.issue("client", "sender@herald")

    async with (
        running(counted.methods, address="localhost:0", protection=Protection(server)) as one,
        running(counted.methods, address="localhost:0", protection=Protection(server)) as other,
        open_channels(
            f"{one.server.address},{other.server.address}", ChannelSecurity(client)
        ) as channels,
    ):
        picker = ChannelPicker(channels.values())

        def method(channel: grpc.aio.Channel) -> Any:
            return channel.unary_unary(f"/{NAME}/Ask", None, None)

        for _ in range(4):
            answer: Any = await picker.call(method, b"", 60)
            assert answer == b"here"

    assert len(channels) == 2


def _without_a_certificate(here: Authority, _foreign: Authority) -> ChannelSecurity:
    return ChannelSecurity(CertificateFiles(ca=here.file))


def _with_an_expired_certificate(here: Authority, _foreign: Authority) -> ChannelSecurity:
    return ChannelSecurity(here.issue("client", "sender@herald", valid=-timedelta(hours=1)))


def _with_a_foreign_certificate(here: Authority, foreign: Authority) -> ChannelSecurity:
    return ChannelSecurity(replace(foreign.issue("client", "sender@herald"), ca=here.file))


def _in_plain_text(_here: Authority, _foreign: Authority) -> ChannelSecurity:
    return UNPROTECTED


def _that_trusts_another_ca(here: Authority, foreign: Authority) -> ChannelSecurity:
    return ChannelSecurity(replace(here.issue("client", "sender@herald"), ca=foreign.file))


def _that_wants_another_host(here: Authority, _foreign: Authority) -> ChannelSecurity:
    return ChannelSecurity(here.issue("client", "sender@herald"), server_name="elsewhere.internal")


@pytest.mark.parametrize(
    "client",
    [
        _without_a_certificate,
        _with_an_expired_certificate,
        _with_a_foreign_certificate,
        _in_plain_text,
        _that_trusts_another_ca,
        _that_wants_another_host,
    ],
    ids=lambda client: client.__name__.strip("_"),
)
async def test_no_handler_runs_for_a_client(
    client: Callable[[Authority, Authority], ChannelSecurity], authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "foreign").mkdir()
    security = client(authority, Authority(tmp_path / "foreign"))
    counted = Counted()

    async with (
        running(counted.methods, protection=Protection(authority.issue("server"))) as service,
        open_channel(service.server.address, security) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(channel)

    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert counted.calls == 0


async def test_a_client_with_tls_is_told_that_a_server_has_none(authority: Authority) -> None:
    counted = Counted()

    async with (
        running(counted.methods) as service,
        open_channel(
            service.server.address, ChannelSecurity(CertificateFiles(ca=authority.file))
        ) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError, match="WRONG_VERSION_NUMBER"):
            await ask(channel)

    assert counted.calls == 0


@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_no_call_fails_while_all_certificates_are_exchanged_every_second(
    authority: Authority,
) -> None:
    server, client = authority.issue("server"), authority.issue("client", "sender@herald")
    counted, stop = Counted(), asyncio.Event()
    answered = 0

    async def exchange() -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + 15
        while loop.time() < ends_at:
            authority.issue("server")
            authority.issue("client", "sender@herald")
            await asyncio.sleep(1)
        stop.set()

    async def call_on_one_channel(address: str) -> None:
        nonlocal answered
        async with open_channel(address, ChannelSecurity(client)) as channel:
            while not stop.is_set():
                assert await ask(channel) == b"here"
                answered += 1

    async def call_on_new_channels(address: str) -> None:
        nonlocal answered
        while not stop.is_set():
            try:
                async with open_channel(address, ChannelSecurity(client)) as channel:
                    assert await ask(channel) == b"here"
                    answered += 1
            except CertificateError:
                # between the two files of a pair; a channel that is open keeps the last good pair
                await asyncio.sleep(0)

    async with (
        running(counted.methods, protection=Protection(server)) as service,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(exchange())
        group.create_task(call_on_one_channel(service.server.address))
        group.create_task(call_on_new_channels(service.server.address))

    assert answered == counted.calls > 150


async def test_a_channel_calls_with_a_new_certificate_once_it_is_there(
    authority: Authority,
) -> None:
    """The first one is refused, so that only the new one can have been used."""
    client = authority.issue("client", "sender@herald", valid=-timedelta(hours=1))
    counted = Counted()

    async with (
        running(counted.methods, protection=Protection(authority.issue("server"))) as service,
        open_channel(service.server.address, ChannelSecurity(client)) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(channel)
        authority.issue("client", "sender@herald")
        while not counted.calls:
            with suppress(grpc.aio.AioRpcError):
                await ask(channel)

    assert counted.calls == 1


class Paged:
    """A stream that goes on when it is told to, and a method to call beside it."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    @property
    def methods(self) -> dict[str, Any]:
        async def pages(_request: bytes, _context: Any) -> Any:
            yield b"before"
            await self.go_on.wait()
            yield b"after"

        return {**Counted().methods, "Pages": raw_service.pages(pages)}


async def _replaced_under_a_stream(
    channel: grpc.aio.Channel, exchange: Callable[[], object]
) -> Any:
    """Returns a stream in progress whose channel has been replaced."""
    assert isinstance(channel, SecureChannel)
    call = channel.unary_stream(f"/{NAME}/Pages", None, None)(b"")
    assert await call.read() == b"before"
    first = channel.current()
    exchange()
    while channel.current() is first:
        assert await ask(channel) == b"here"
    return call


async def test_a_call_in_progress_ends_in_the_channel_that_it_began_in(
    authority: Authority,
) -> None:
    client = authority.issue("client", "sender@herald")
    paged = Paged()
    async with (
        running(paged.methods, protection=Protection(authority.issue("server"))) as service,
        open_channel(service.server.address, ChannelSecurity(client)) as channel,
    ):
        exchange = partial(authority.issue, "client", "sender@herald")
        stream = await _replaced_under_a_stream(channel, exchange)
        paged.go_on.set()

        assert await stream.read() == b"after"
        assert await stream.read() is grpc.aio.EOF


async def test_a_channel_that_is_closed_ends_the_calls_of_those_that_it_has_replaced(
    authority: Authority,
) -> None:
    client = authority.issue("client", "sender@herald")
    async with running(
        Paged().methods, protection=Protection(authority.issue("server"))
    ) as service:
        async with open_channel(service.server.address, ChannelSecurity(client)) as channel:
            exchange = partial(authority.issue, "client", "sender@herald")
            stream = await _replaced_under_a_stream(channel, exchange)

        assert stream.cancelled()


def _garbage(files: CertificateFiles) -> None:
    assert files.certificate
    files.certificate.write_text("no certificate")


def _cut(files: CertificateFiles) -> None:
    assert files.certificate
    files.certificate.write_bytes(files.certificate.read_bytes()[:300])


def _empty(files: CertificateFiles) -> None:
    assert files.key
    files.key.write_text("")


def _missing(files: CertificateFiles) -> None:
    assert files.key
    files.key.unlink()


def _key_of_another(files: CertificateFiles) -> None:
    assert files.key
    other = Authority(files.key.parent).issue("another")
    assert other.key
    files.key.write_bytes(other.key.read_bytes())


def _bad_ca(files: CertificateFiles) -> None:
    assert files.ca
    files.ca.write_text("no CA")


BREAKING = [_garbage, _cut, _empty, _missing, _key_of_another, _bad_ca]


@pytest.mark.parametrize("break_", BREAKING, ids=lambda each: each.__name__.strip("_"))
async def test_bad_new_files_leave_the_last_good_ones_in_use_and_are_logged(
    break_: Callable[[CertificateFiles], None], authority: Authority, tmp_path: Path
) -> None:
    server = authority.issue("server")
    (tmp_path / "client").mkdir()
    client = Authority(tmp_path / "client", authority.authority).issue("client", "sender@herald")
    assert server.key
    key = server.key.read_text()

    async with running(Counted().methods, protection=Protection(server)) as service:
        with capture_logs() as logs:
            break_(server)
            for _ in range(2):
                async with open_channel(service.server.address, ChannelSecurity(client)) as channel:
                    assert await ask(channel) == b"here"

    (line,) = [line for line in logs if line["event"].startswith("bad certificates")]
    assert line["log_level"] == "warning"
    assert str(tmp_path) in line["error"]
    assert key.splitlines()[1] not in str(logs)


@pytest.mark.parametrize("break_", BREAKING, ids=lambda each: each.__name__.strip("_"))
async def test_a_server_does_not_start_with_bad_files(
    break_: Callable[[CertificateFiles], None], authority: Authority
) -> None:
    server = authority.issue("server")
    break_(server)

    with pytest.raises(CannotListenError, match="cannot listen on"):
        async with running({}, protection=Protection(server)):
            pass


def test_files_can_be_read_again_though_they_look_unchanged(authority: Authority) -> None:
    """As a file system does that keeps coarse times."""
    files = authority.issue("server")
    watch = CertificateWatch(files)
    assert files.certificate
    before = watch.certificates
    stat = files.certificate.stat()

    other = authority.issue("other")
    for name in ("certificate", "key"):
        old = getattr(files, name)
        content = getattr(other, name).read_bytes()
        with old.open("r+b") as file:
            file.write(content)
            file.truncate()
        os.utime(old, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    reload_all()

    assert watch.certificates != before
    assert watch.generation == 1


@pytest.mark.parametrize(
    "address", ["0.0.0.0:0", "[::]:0", ":0", "*:0", "segment.internal:0", "192.0.2.1:0"]
)
@pytest.mark.parametrize("present", ["nothing", "tls", "tokens"])
async def test_without_both_tls_and_tokens_a_server_listens_on_loopback_only(
    address: str, present: str, authority: Authority
) -> None:
    protection = Protection(
        tls=authority.issue("server") if present == "tls" else None, tokens=present == "tokens"
    )

    with pytest.raises(CannotListenError, match="HERALD_INSECURE=true"):
        async with running({}, address=address, protection=protection):
            pass


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.0.0.2:0", "localhost:0"])
async def test_on_loopback_a_server_needs_no_protection(address: str) -> None:
    async with running({}, address=address):
        pass


@pytest.mark.parametrize(
    ("address", "tls", "tokens", "warns"),
    [
        ("0.0.0.0:0", False, False, True),
        ("0.0.0.0:0", True, False, True),
        ("0.0.0.0:0", False, True, True),
        ("0.0.0.0:0", True, True, False),
        ("127.0.0.1:0", False, False, False),
    ],
)
async def test_a_server_that_may_be_insecure_warns_at_each_start_if_it_is(
    address: str, *, tls: bool, tokens: bool, warns: bool, authority: Authority
) -> None:
    protection = Protection(authority.issue("server") if tls else None, tokens, insecure=True)
    for _ in range(2):
        with capture_logs() as logs:
            async with running({}, address=address, protection=protection):
                pass

        lines = [line for line in logs if line["log_level"] == "warning"]
        assert [line["event"] for line in lines] == (
            ["insecure: others than this machine reach the server"] if warns else []
        )
        for line in lines:
            assert (line["tls"], line["tokens"]) == (tls, tokens)


async def test_a_protected_server_listens_beyond_loopback(authority: Authority) -> None:
    counted = Counted()

    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            running(
                counted.methods,
                address="0.0.0.0:0",
                protection=Protection(authority.issue("server"), tokens=True),
            )
        )
        port = service.server.address.rpartition(":")[2]
        channel = await stack.enter_async_context(
            open_channel(f"127.0.0.1:{port}", ChannelSecurity(authority.issue("client")))
        )
        assert await ask(channel) == b"here"
