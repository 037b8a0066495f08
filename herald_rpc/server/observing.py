"""Shows every call to observers: when it begins, and with which status it ends."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf import descriptor_pool

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_OF_GRPC = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)

Metadata: TypeAlias = "Sequence[tuple[str, str | bytes]]"
Ended = Callable[[grpc.StatusCode], None]


class CallObserver(Protocol):
    """Must not raise, because that would change the call's answer."""

    def begin(self, method: str, metadata: Metadata) -> Ended:
        """Notes that a call begins, in the call's own task. The result notes how it ends."""


# Generic in one set of type stubs, but not at run time.
class ObservingInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg,unused-ignore]
    """Must be the first interceptor, because only then it sees what the caller gets.

    All handlers below `CallInterceptor` are coroutines, those of streams too.
    """

    def __init__(self, observers: Sequence[CallObserver]) -> None:
        self._observers = observers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method: str = handler_call_details.method
        metadata: Any = handler_call_details.invocation_metadata or ()
        handler = await continuation(handler_call_details)
        kind = next(name for name in _KINDS if getattr(handler, name))
        behaviour = getattr(handler, kind)

        async def observed(incoming: Any, context: Any) -> Any:
            # not earlier: a caller may leave before the handler of its call begins
            ended = [observer.begin(method, metadata) for observer in self._observers]
            code = grpc.StatusCode.UNKNOWN
            try:
                answer = await behaviour(incoming, context)
                code = grpc.StatusCode.OK
            except asyncio.CancelledError:
                is_late = context.time_remaining() == 0
                cancelled, late = grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED
                code = late if is_late else cancelled
                raise
            except BaseException:
                code = _code_of(context)
                raise
            finally:
                for note in ended:
                    note(code)
            return answer

        return handler._replace(**{kind: observed})


def methods_of(services: Iterable[str]) -> frozenset[str]:
    """Returns the methods of these services and of gRPC's own, as `/package.Service/Method`.

    Services that have no descriptor have no methods here.
    """
    pool: Any = descriptor_pool.Default()
    methods = set()
    for service in (*services, *_OF_GRPC):
        try:
            found = pool.FindServiceByName(service).methods
        except KeyError:
            continue
        methods |= {f"/{service}/{method.name}" for method in found}
    return frozenset(methods)


def _code_of(context: Any) -> grpc.StatusCode:
    code = context.code()
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(code, grpc.StatusCode.UNKNOWN)
