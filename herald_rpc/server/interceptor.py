"""Wraps every call of both servers: gives it a request id, and its exceptions a status."""

import asyncio
import inspect
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
import structlog
from grpc_status import rpc_status
from structlog.contextvars import bound_contextvars

from herald_rpc import tracing
from herald_rpc.server import deadlines
from herald_rpc.server.active_calls import REASON_UNAVAILABLE, ActiveCalls
from herald_rpc.server.admission import CallLimits, OverloadedError, Slots, overloaded
from herald_rpc.server.failures import Failure, FailureFor, to_status
from herald_rpc.server.guarding import CallAudit, Guard, RefusedError
from herald_rpc.server.principals import LOCAL, NOBODY, Principal, acting_as

REQUEST_ID_KEY = "x-request-id"
"""The metadata key of a request id, in requests and in the trailers of responses."""

REASON_INTERNAL = "ERROR_REASON_INTERNAL"
REASON_UNIMPLEMENTED = "ERROR_REASON_UNIMPLEMENTED"
REASON_MALFORMED_REQUEST = "ERROR_REASON_MALFORMED_REQUEST"

# gRPC's own services, health and reflection, are answered even when the server is full.
_ALWAYS_ADMITTED = "/grpc."
# load balancers and Kubernetes ask without a token
_UNGUARDED = "/grpc.health."

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# How long gRPC may take to cancel a call whose caller has left; it needs milliseconds.
_LEAVING_SECONDS = 5.0

_LACKS_A_RIGHT = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_WORTH_A_WARNING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}

_T = TypeVar("_T")
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Found: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# By (requests are a stream, responses are a stream).
_MAKE_HANDLER: Mapping[tuple[bool, bool], Callable[..., _Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}

logger = structlog.get_logger(__name__)


# Generic in one set of type stubs, but not at run time.
class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg,unused-ignore]
    """Turns everything that servicers raise into a status, so that servicers catch nothing.

    Errors that `failure_for` knows become its failures. Others are logged with their traceback
    and answered INTERNAL with a fixed text; the request id is in both. An RPC that a servicer
    leaves out, or that no service has, is UNIMPLEMENTED. A cancelled call stays cancelled, an
    aborted one keeps its status, and a stream's generator is closed before its call ends.

    Above `limits`, calls are refused with RESOURCE_EXHAUSTED before their request is decoded. A
    unary call's deadline also limits the calls that its handler makes, see `deadlines`. A call
    that nears it while the server is `impaired` ends as UNAVAILABLE, and so do calls that
    `cancel_remaining` cancels.

    With a guard, calls are refused before all that unless it lets them pass. It counts calls that
    are denied, too, but not gRPC's own. `audit` gets to know each call in progress, and each that
    is refused for lack of a right.
    """

    def __init__(
        self,
        failure_for: FailureFor,
        limits: CallLimits,
        guard: Guard | None = None,
        audit: CallAudit | None = None,
    ) -> None:
        self._calls = Slots("calls", limits.calls)
        self._streams = Slots("streams", limits.streams)
        self._active = ActiveCalls(failure_for, limits.stalled_seconds)
        self._guard = guard
        self._audit = audit
        if guard:
            guard.follow(self._active)
        self.is_starting = False
        """Whether all calls but gRPC's own are refused as UNAVAILABLE."""

    def set_impaired(self, impaired: bool) -> None:  # noqa: FBT001  a setter's one argument
        """Sets whether something that the server depends on is down."""
        self._active.impaired = impaired

    async def cancel_remaining(self, after_seconds: float) -> None:
        """Cancels the calls still in progress after that time. Returns at once if none is left."""
        await self._active.wait(after_seconds)
        self._active.cancel_all()

    async def wait_for_handlers(self, most_seconds: float) -> None:
        """Waits until no handler runs any more, after the server has stopped and cancelled them."""
        for task in await self._active.wait(most_seconds):
            logger.warning("a handler does not end", task=str(task))

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Found]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        handler = await continuation(handler_call_details)
        method, metadata = handler_call_details.method, handler_call_details.invocation_metadata
        call = _Call(
            method=method,
            request_id=_request_id(metadata),
            active=self._active,
            audit=self._audit,
            is_known=handler is not None,
        )
        # tokens can't be looked up yet
        at_any_time = _UNGUARDED if self._guard else _ALWAYS_ADMITTED
        if self.is_starting and not method.startswith(at_any_time):
            return call.refused(_StartingError())
        if self._guard and not method.startswith(_UNGUARDED):
            try:
                call = replace(call, principal=await self._guard.authenticate(metadata))
                if not method.startswith(_ALWAYS_ADMITTED):
                    counted = self._guard.count(call.principal)
                    call = replace(call, trailers=counted.trailers)
                    if counted.refusal:
                        return call.refused(counted.refusal)
                if handler is not None:
                    self._guard.authorize(call.principal, method)
            except Exception as error:  # noqa: BLE001  answered as those of handlers are
                if call.principal is LOCAL:
                    known = error.principal if isinstance(error, RefusedError) else None
                    call = replace(call, principal=known or NOBODY)
                return call.refused(error)
        if handler is None:
            return call.refused(_UnknownMethodError())
        return call.wrapped(handler, self._slots_for(method, handler))

    def _slots_for(self, method: str, handler: Any) -> Slots | None:
        if method.startswith(_ALWAYS_ADMITTED):
            return None
        is_stream = handler.request_streaming or handler.response_streaming
        return self._streams if is_stream else self._calls


class _UnknownMethodError(Exception):
    """No service here has the method."""


class _StartingError(Exception):
    """The server waits for what it depends on, and can't answer yet."""


class _StalledReaderError(Exception):
    """The client of a stream takes no messages, but its connection lives."""


class _MalformedRequestError(Exception):
    """The bytes of the request are not a message of its type."""


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    request_id: str
    active: ActiveCalls
    audit: CallAudit | None
    is_known: bool
    """Whether a service here has the method."""
    principal: Principal = LOCAL
    trailers: tuple[tuple[str, str], ...] = ()

    def refused(self, error: Exception) -> _Handler:
        """Makes a handler that refuses every request, with the error's reason.

        It streams both ways, which works for clients of every kind of method.
        """

        async def refuse() -> NoReturn:
            raise error

        async def respond(_requests: Any, context: _Context) -> None:
            await self._answer(context, refuse)

        return _MAKE_HANDLER[True, True](respond)

    def wrapped(self, handler: Any, slots: Slots | None) -> _Handler:
        """Wraps a handler of any of the four kinds, to run in one of the slots.

        Messages are decoded and encoded inside as well, because errors of that would otherwise
        reach the caller as UNKNOWN with the exception's text.
        """
        behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        decode = _refusing(handler.request_deserializer)
        occupy_slot = slots.acquire if slots else nullcontext

        def begin(incoming: Any, context: _Context) -> Any:
            return behaviour(incoming if handler.request_streaming else decode(incoming), context)

        async def unary(incoming: Any, context: _Context) -> Any:
            async def one_message() -> Any:
                with occupy_slot(), deadlines.call_deadline(context.time_remaining()):
                    async with deadlines.fail_fast_if(lambda: self.active.impaired):
                        response = await begin(incoming, context)
                encode = handler.response_serializer
                return encode(response) if encode else response

            return await self._answer(context, one_message)

        async def stream(incoming: Any, context: _Context) -> None:
            async def pages() -> None:
                if self.principal is not LOCAL:
                    self.active.add_stream(self.principal)
                with occupy_slot():
                    answer = begin(incoming, context)
                    if inspect.isawaitable(answer):
                        await answer
                        return
                    async with aclosing(answer):
                        async for page in answer:
                            await _write(context, page, self.active.stalled_seconds)

            await self._answer(context, pages)

        make = _MAKE_HANDLER[handler.request_streaming, handler.response_streaming]
        return make(
            stream if handler.response_streaming else unary,
            decode if handler.request_streaming else None,
            handler.response_serializer if handler.response_streaming else None,
        )

    async def _answer(self, context: _Context, respond: Callable[[], Awaitable[_T]]) -> _T:
        task = asyncio.current_task()
        if task:
            self.active.add(task)
        named = {} if self.principal in (LOCAL, NOBODY) else {"principal": self.principal.id}
        audited = (
            self.audit.calling(self.principal, self.method, self.request_id, context.peer())
            if self.audit
            else nullcontext()
        )
        with (
            bound_contextvars(request_id=self.request_id, method=self.method, **named),
            acting_as(self.principal),
            audited,
        ):
            # Not in the headers: clients retry a call only before any part of its response arrives.
            context.set_trailing_metadata(((REQUEST_ID_KEY, self.request_id), *self.trailers))
            try:
                return await self._response(context, respond)
            except grpc.aio.AbortError as aborted:
                if task:
                    task.add_done_callback(partial(_release, aborted))
                raise

    async def _response(self, context: _Context, respond: Callable[[], Awaitable[_T]]) -> _T:
        try:
            return await respond()
        except grpc.aio.AbortError:
            raise
        except asyncio.CancelledError:
            failure = self.active.why_cancelled(asyncio.current_task())
            if failure is None:
                raise
            await self._abort(context, failure)
        except Exception as error:  # noqa: BLE001  the one place that answers for all others
            await self._abort(context, self._failure_of(error, context))

    async def _abort(self, context: _Context, failure: Failure) -> NoReturn:
        if self.audit and failure.code in _LACKS_A_RIGHT:
            # any text may be called; only the names of methods are kept
            method = self.method if self.is_known else ""
            self.audit.refused(
                self.principal, method, self.request_id, context.peer(), failure.reason
            )
        if trace_id := tracing.trace_id(tracing.current()):
            failure = replace(failure, metadata={"trace_id": trace_id, **failure.metadata})
        status = rpc_status.to_status(to_status(failure))
        own = (REQUEST_ID_KEY, self.request_id), *self.trailers
        trailers = (*status.trailing_metadata, *own)
        await context.abort(status.code, status.details, trailers)

    def _failure_of(self, error: Exception, context: _Context) -> Failure:
        failure = self._own_failure(error, context)
        if failure is None:
            try:
                failure = self.active.failure_for(error)
            except Exception as mapping_error:  # noqa: BLE001  its text must not leak either
                error = mapping_error
        if failure is None:
            logger.error("unexpected error in a call", exc_info=error)
            return Failure(
                code=grpc.StatusCode.INTERNAL,
                reason=REASON_INTERNAL,
                message="internal error",
                metadata={"request_id": self.request_id},
            )
        # callers that come too early or stop reading say nothing about the server
        callers_own = isinstance(error, _StartingError | _StalledReaderError)
        if failure.code in _WORTH_A_WARNING and not callers_own:
            logger.warning("call failed", code=failure.code.name, exc_info=error)
        else:
            logger.debug("call refused", code=failure.code.name, reason=failure.reason)
        return failure

    def _own_failure(self, error: Exception, context: _Context) -> Failure | None:
        # Generated servicers set the code before they raise. Any other NotImplementedError is a
        # defect of ours.
        left_out = (
            isinstance(error, NotImplementedError)
            and context.code() is grpc.StatusCode.UNIMPLEMENTED
        )
        if left_out or isinstance(error, _UnknownMethodError):
            return Failure(
                code=grpc.StatusCode.UNIMPLEMENTED,
                reason=REASON_UNIMPLEMENTED,
                message="this server does not have this method",
                metadata={"method": self.method},
            )
        if isinstance(error, RefusedError):
            return error.failure
        if isinstance(error, OverloadedError):
            return overloaded()
        if isinstance(error, _StartingError):
            return Failure(
                code=grpc.StatusCode.UNAVAILABLE,
                reason=REASON_UNAVAILABLE,
                message="the server is starting, and waits for what it depends on",
            )
        if isinstance(error, _StalledReaderError):
            return Failure(
                code=grpc.StatusCode.UNAVAILABLE,
                reason=REASON_UNAVAILABLE,
                message=(
                    f"the client has taken nothing for {self.active.stalled_seconds:g} seconds; "
                    "resume the stream"
                ),
            )
        if isinstance(error, deadlines.DeadlineNearError):
            return Failure(
                code=grpc.StatusCode.UNAVAILABLE,
                reason=REASON_UNAVAILABLE,
                message="a dependency of the server did not answer in time",
            )
        if isinstance(error, _MalformedRequestError):
            return Failure(
                code=grpc.StatusCode.INVALID_ARGUMENT,
                reason=REASON_MALFORMED_REQUEST,
                message="the request is not a message of this method",
                metadata={"method": self.method},
            )
        return None


def _release(aborted: grpc.aio.AbortError, _task: asyncio.Task[Any]) -> None:
    """Frees the request of a call that has ended.

    gRPC's call keeps the exception, whose traceback refers to the frames with the request and the
    call. Only the garbage collector would free this cycle, some hundred calls later.
    """
    if aborted.__context__:
        # a log that prints locals may keep the exception in a cycle of its own
        aborted.__context__.__traceback__ = None
    aborted.__context__ = None
    aborted.__traceback__ = None


async def _write(context: _Context, page: Any, most_seconds: float) -> None:
    try:
        async with asyncio.timeout(most_seconds):
            await context.write(page)
    except TimeoutError as error:
        raise _StalledReaderError from error
    except grpc.aio.InternalError:
        # Most likely the caller has left. The cancellation arrives a moment later, and must find
        # the task here and not in the `finally` blocks of its generator.
        await asyncio.sleep(_LEAVING_SECONDS)
        raise


def _refusing(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def decode(raw: bytes) -> Any:
        if deserializer is None:
            return raw
        try:
            return deserializer(raw)
        except Exception as error:
            raise _MalformedRequestError from error

    return decode


def _request_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str) and _SANE_REQUEST_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex
