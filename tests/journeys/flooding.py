"""Clients that ask for too much, to be run as processes: `python -m tests.journeys.flooding`."""

import asyncio
import json
import socket
import struct
import sys
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from herald.segment.v1 import segment_service_pb2 as pb
from herald.segment.v1.segment_service_pb2_grpc import SegmentServiceStub

PAGE = "a page"
OVERLOADED = "RESOURCE_EXHAUSTED, ERROR_REASON_OVERLOADED, to be retried"
GET_SEGMENT = "/herald.segment.v1.SegmentService/GetSegment"

_HEADERS, _RST_STREAM, _SETTINGS = 1, 3, 4
_ACKNOWLEDGED, _END_HEADERS = 1, 4
_CANCEL = struct.pack(">I", 8)
# as many as fit into what a server reads at once
_RESETS_AT_ONCE = 50


def refusal_text(error: Any) -> str:
    """The code, and what else the caller was told."""
    status = rpc_status.from_call(error)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    parts = [error.code().name]
    for detail in status.details if status else ():
        if detail.Unpack(info):
            parts.append(info.reason)
        if detail.Unpack(retry) and retry.retry_delay.ToTimedelta():
            parts.append("to be retried")
    return ", ".join(parts)


async def burst(address: str, calls: int, connections: int) -> Counter[str]:
    """All at once; how they ended."""
    channels = [
        # not shared among the channels
        grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
        for _ in range(connections)
    ]

    async def outcome(number: int) -> str:
        service = SegmentServiceStub(channels[number % connections])
        try:
            await service.GetSegment(pb.GetSegmentRequest(id="none"))
        except grpc.aio.AioRpcError as error:
            return refusal_text(error)
        return "OK"

    outcomes = await asyncio.gather(*map(outcome, range(calls)))
    for channel in channels:
        await channel.close()
    return Counter(outcomes)


async def unread(address: str, streams: int, segment_id: str) -> None:
    """Reads one page of each, says what came, and reads no more until standard input ends."""
    # without a window that grows, the next pages wait in the server
    async with grpc.aio.insecure_channel(
        address, options=(("grpc.http2.bdp_probe", 0),)
    ) as channel:
        service = SegmentServiceStub(channel)
        request = pb.StreamTargetsRequest(segment_ids=[segment_id])
        calls = [service.StreamTargets(request) for _ in range(streams)]

        async def first(call: Any) -> str:
            try:
                return "EOF" if await call.read() is grpc.aio.EOF else PAGE
            except grpc.aio.AioRpcError as error:
                return refusal_text(error)

        print(json.dumps(Counter(await asyncio.gather(*map(first, calls)))), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def resets(address: str, calls: int) -> Counter[str]:
    """Begins so many calls and resets each in the next frame, on a new connection if it is cut."""
    host, _, port = address.rpartition(":")
    left = calls
    while left > 0:
        with suppress(ConnectionError), socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0))
            connection.sendall(_frame(_SETTINGS, _ACKNOWLEDGED, 0))
            threading.Thread(target=_read, args=(connection,), daemon=True).start()
            for first in range(0, left, _RESETS_AT_ONCE):
                streams = range(2 * first + 1, 2 * (first + _RESETS_AT_ONCE), 2)
                connection.sendall(b"".join(map(_reset_call, streams)))
                left -= _RESETS_AT_ONCE
    return Counter(reset=calls)


def _reset_call(stream: int) -> bytes:
    headers = b"\x83\x86" + b"".join(  # POST, http
        b"\x00" + _text(name) + _text(value)
        for name, value in (
            (":path", GET_SEGMENT),
            (":authority", "herald"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        )
    )
    return _frame(_HEADERS, _END_HEADERS, stream, headers) + _frame(_RST_STREAM, 0, stream, _CANCEL)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _read(connection: socket.socket) -> None:
    # until the other thread closes it
    with suppress(OSError):
        while connection.recv(65_536):
            pass


def main(kind: str, address: str, *arguments: str) -> None:
    """Prints the outcomes as JSON."""
    match kind, arguments:
        case "burst", (calls, connections):
            print(json.dumps(asyncio.run(burst(address, int(calls), int(connections)))))
        case "resets", (calls,):
            print(json.dumps(resets(address, int(calls))))
        case "unread", (streams, segment_id):
            asyncio.run(unread(address, int(streams), segment_id))
        case _:
            raise SystemExit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
