"""Server reflection, in both versions that clients ask for."""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

_V1ALPHA = "grpc.reflection.v1alpha"
_V1 = "grpc.reflection.v1"
_V1_FILE = "grpc/reflection/v1/reflection.proto"

SERVICE_NAMES = (f"{_V1}.ServerReflection", f"{_V1ALPHA}.ServerReflection")


def enable_reflection(service_names: Iterable[str], server: grpc.aio.Server) -> None:
    """Adds v1 and v1alpha. Both describe the named services and themselves."""
    _describe_v1()
    servicer = reflection.aio.ReflectionServicer(
        [*service_names, *SERVICE_NAMES], pool=_SymbolPool(descriptor_pool.Default())
    )
    # The messages of both versions are the same on the wire.
    info = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in SERVICE_NAMES:
        handlers = {"ServerReflectionInfo": info}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])


class _SymbolPool:
    """A pool that also finds the files of methods, fields and values, as clients may ask.

    Python's own pool finds those of types and services only.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802 - the pool's name
        """Raises KeyError for an unknown symbol."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            parent, _, member = symbol.rpartition(".")
            if member not in self._members(parent):
                raise
            return self._pool.FindFileContainingSymbol(parent)

    def _members(self, parent: str) -> set[str]:
        for find, kinds in (
            (self._pool.FindServiceByName, ["methods_by_name"]),
            (self._pool.FindMessageTypeByName, ["fields_by_name", "oneofs_by_name"]),
            (self._pool.FindEnumTypeByName, ["values_by_name"]),
        ):
            try:
                found = find(parent)
            except KeyError:
                continue
            return {name for kind in kinds for name in getattr(found, kind)}
        return set()


def _describe_v1() -> None:
    """Adds the descriptors of v1, which the library lacks, made from those of v1alpha."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_V1_FILE)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        file.name, file.package = _V1_FILE, _V1
        for message in file.message_type:
            for field in message.field:
                if field.type_name:
                    field.type_name = field.type_name.replace(_V1ALPHA, _V1)
        for method in file.service[0].method:
            method.input_type = method.input_type.replace(_V1ALPHA, _V1)
            method.output_type = method.output_type.replace(_V1ALPHA, _V1)
        pool.AddSerializedFile(file.SerializeToString())
