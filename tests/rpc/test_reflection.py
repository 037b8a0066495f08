"""Reflection describes everything that the services have, in both of its versions."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2 as pb

from herald.campaign.v1 import campaign_pb2, campaign_service_pb2
from herald.chat.v1 import chat_pb2, chat_service_pb2
from herald.event.v1 import event_pb2, event_service_pb2
from herald.segment.v1 import segment_pb2, segment_service_pb2
from herald_rpc.server.reflection import SERVICE_NAMES
from tests.harness import grpcurl
from tests.rpc.raw_service import running

_FILES: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
        campaign_pb2,
        campaign_service_pb2,
        chat_pb2,
        chat_service_pb2,
        event_pb2,
        event_service_pb2,
        segment_pb2,
        segment_service_pb2,
    )
]


def _symbols(file: FileDescriptor) -> Iterator[str]:
    for service in file.services_by_name.values():
        yield service.full_name
        yield from (method.full_name for method in service.methods)
    for enum in file.enum_types_by_name.values():
        yield enum.full_name
        yield from (f"{file.package}.{value.name}" for value in enum.values)
    for message in file.message_types_by_name.values():
        yield from _symbols_of_message(message)


def _symbols_of_message(message: Descriptor) -> Iterator[str]:
    yield message.full_name
    yield from (field.full_name for field in message.fields)
    yield from (f"{message.full_name}.{oneof.name}" for oneof in message.oneofs)
    for nested in message.nested_types:
        yield from _symbols_of_message(nested)


def _asking(channel: grpc.aio.Channel, service: str) -> Any:
    return channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )


async def _file_of(call: Any, symbol: str) -> str:
    """The name of the file that reflection answers for the symbol; empty if it has none."""
    await call.write(pb.ServerReflectionRequest(file_containing_symbol=symbol))
    answer = await call.read()
    if not answer.HasField("file_descriptor_response"):
        return ""
    files = answer.file_descriptor_response.file_descriptor_proto
    name: str = descriptor_pb2.FileDescriptorProto.FromString(files[0]).name
    return name


@pytest.mark.parametrize("version", SERVICE_NAMES)
async def test_every_symbol_of_every_service_is_found_in_its_file(version: str) -> None:
    expected = {symbol: file.name for file in _FILES for symbol in _symbols(file)}

    async with running({}) as service:
        call = _asking(service.channel, version)()
        found = {symbol: await _file_of(call, symbol) for symbol in expected}
        await call.done_writing()

    assert found == expected
    assert "herald.campaign.v1.CampaignService.StartCampaign" in found


@pytest.mark.parametrize("version", SERVICE_NAMES)
@pytest.mark.parametrize(
    "symbol",
    [
        "",
        ".",
        "herald",
        "herald.campaign.v1",
        "herald.campaign.v1.CampaignService.Start",
        "herald.campaign.v1.CampaignService.StartCampaign.more",
        "herald.campaign.v1.Campaign.none",
    ],
)
async def test_an_unknown_symbol_is_answered_as_not_found(version: str, symbol: str) -> None:
    async with running({}) as service:
        call = _asking(service.channel, version)()
        assert await _file_of(call, symbol) == ""
        # the stream goes on
        assert await _file_of(call, "herald.campaign.v1.Campaign")
        await call.done_writing()


@pytest.mark.parametrize("version", SERVICE_NAMES)
async def test_reflection_describes_itself(version: str) -> None:
    async with running({}) as service:
        call = _asking(service.channel, version)()
        assert await _file_of(call, version)
        await call.done_writing()


async def test_grpcurl_describes_a_method() -> None:
    async with running({}) as service:
        printed = await asyncio.to_thread(
            grpcurl.grpcurl,
            service.server.address,
            "describe",
            "herald.campaign.v1.CampaignService.StartCampaign",
        )

    assert "rpc StartCampaign" in printed
