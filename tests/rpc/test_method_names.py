"""No method of ours hides one that a client's base class has in another language."""

from collections.abc import Iterator, Mapping

import pytest
from google.protobuf.descriptor import MethodDescriptor

from herald.campaign.v1 import campaign_service_pb2
from herald.chat.v1 import chat_service_pb2
from herald.event.v1 import event_service_pb2
from herald.segment.v1 import segment_service_pb2

_SERVICES = [
    service
    for module in (
        campaign_service_pb2,
        chat_service_pb2,
        event_service_pb2,
        segment_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
]

# The public and protected members of the classes that generated clients extend, and of the root
# classes of these languages: grpc-js's `Client`, grpc-java's `AbstractStub`, C#'s `ClientBase` and
# version 1 of grpc-swift's `GRPCClient`.
_TAKEN: Mapping[str, str] = {
    "grpc-js": """
        close getChannel waitForReady makeUnaryRequest makeClientStreamRequest
        makeServerStreamRequest makeBidiStreamRequest checkOptionalUnaryResponseArguments
        checkMetadataAndOptions
        constructor hasOwnProperty isPrototypeOf propertyIsEnumerable toLocaleString toString
        valueOf
    """,
    "grpc-java": """
        build getChannel getCallOptions newStub withCallCredentials withChannel withCompression
        withDeadline withDeadlineAfter withExecutor withInterceptors withMaxInboundMessageSize
        withMaxOutboundMessageSize withOnReadyThreshold withOption withWaitForReady
        clone equals finalize getClass hashCode notify notifyAll toString wait
    """,
    "C#": """
        CallInvoker ClientBaseConfiguration Configuration NewInstance WithHost
        Equals Finalize GetHashCode GetType MemberwiseClone ReferenceEquals ToString
    """,
    "Swift": """
        channel defaultCallOptions interceptors makeAsyncUnaryCall makeAsyncClientStreamingCall
        makeAsyncServerStreamingCall makeAsyncBidirectionalStreamingCall makeUnaryCall
        makeClientStreamingCall makeServerStreamingCall makeBidirectionalStreamingCall
        performAsyncUnaryCall performAsyncClientStreamingCall performAsyncServerStreamingCall
        performAsyncBidirectionalStreamingCall serviceDescriptor init self Type
    """,
}


def _method_names() -> Iterator[str]:
    for service in _SERVICES:
        yield from (method.name for method in service.methods)


@pytest.mark.parametrize("language", _TAKEN)
def test_no_method_has_the_name_of_a_member_of_a_clients_base_class(language: str) -> None:
    # compared without case, because most languages write a method's first letter small
    taken = {name.casefold() for name in _TAKEN[language].split()}

    # ts-proto and the asynchronous methods of C# add suffixes
    collisions = {
        name for name in _method_names() if {name.casefold(), f"{name}Async".casefold()} & taken
    }

    assert collisions == set()


def test_generated_members_of_one_client_do_not_collide_with_each_other() -> None:
    for service in _SERVICES:
        members = [member for method in service.methods for member in _members(method)]
        assert sorted(set(members)) == sorted(members), service.name


def _members(method: MethodDescriptor) -> list[str]:
    """The members of the method in C#, C++ and grpc-java, without case."""
    name = method.name.casefold()
    return [name, f"{name}async", f"async{name}", f"prepareasync{name}", f"get{name}method"]
