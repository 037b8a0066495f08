"""The HTTP port of a process: what it answers, and where it listens."""

import socket
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry, Counter

from herald_rpc.addresses import host_and_port, next_address
from herald_rpc.metrics.endpoint import metrics_endpoint
from herald_rpc.server.serving import CannotListenError
from segment_service.settings import SegmentSettings
from tests.metrics.series import get


async def test_metrics_are_text_that_prometheus_reads() -> None:
    registry = CollectorRegistry()
    Counter("pages", "Pages.", registry=registry).inc(3)

    async with metrics_endpoint("0", registry) as endpoint:
        status, text = await get(endpoint.address, "/metrics")

    assert status == 200
    assert "# TYPE pages_total counter\npages_total 3.0\n" in text


async def test_a_process_lives_before_it_is_ready_and_is_ready_as_long_as_what_it_follows() -> None:
    answers = []
    ready = [True, False, True]
    async with metrics_endpoint("0", CollectorRegistry()) as endpoint:
        answers.append((await get(endpoint.address, "/readyz"))[0])
        endpoint.follow(lambda: ready.pop(0))
        answers += [(await get(endpoint.address, "/readyz"))[0] for _ in range(3)]
        live, _ = await get(endpoint.address, "/livez")

    assert answers == [503, 200, 503, 200]
    assert live == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz"])
async def test_nothing_else_is_answered(path: str) -> None:
    async with metrics_endpoint("0", CollectorRegistry()) as endpoint:
        assert (await get(endpoint.address, path))[0] == 404


async def test_a_taken_port_is_refused_with_its_address() -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"

        with pytest.raises(CannotListenError, match=taken):
            async with metrics_endpoint(taken, CollectorRegistry()):
                pass


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("9101", "127.0.0.1", 9101),
        (":9101", "127.0.0.1", 9101),
        ("0.0.0.0:9101", "0.0.0.0", 9101),  # noqa: S104 - what an operator may write
        ("[::1]:9101", "::1", 9101),
        ("metrics.internal:0", "metrics.internal", 0),
    ],
)
def test_a_port_alone_means_loopback(listen: str, host: str, port: int) -> None:
    assert host_and_port(listen) == (host, port)


@pytest.mark.parametrize("listen", ["localhost", "localhost:", "9101.5", "127.0.0.1:70000", "::x"])
def test_what_is_no_address_is_refused_by_the_setting(listen: str) -> None:
    with pytest.raises(ValueError, match="must be host:port, or a port alone"):
        SegmentSettings(segment_metrics_listen=listen)


@pytest.mark.parametrize(
    ("listen", "number", "address"),
    [
        ("9101", 0, "127.0.0.1:9101"),
        ("9101", 2, "127.0.0.1:9103"),
        ("[::1]:9101", 1, "[::1]:9102"),
        ("0", 5, "127.0.0.1:0"),
    ],
)
def test_each_sender_of_a_server_has_the_next_port(listen: str, number: int, address: str) -> None:
    assert next_address(listen, number) == address
