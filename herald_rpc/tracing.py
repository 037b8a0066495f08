"""The trace of whatever this task works on, as text, and spans of it. Off, spans cost nothing.

A trace is passed on as W3C's `traceparent`. OpenTelemetry is imported only if its own variables ask
for traces: `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. Its other variables
hold, too: OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG choose what is recorded.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, auto
from typing import Protocol

HEADER = "traceparent"

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_RECORDED = 1
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

Attributes = Mapping[str, str | int]


class Kind(Enum):
    """The kind of a span, in OpenTelemetry's words."""

    INTERNAL = auto()
    SERVER = auto()
    CLIENT = auto()
    PRODUCER = auto()


class Span(Protocol):
    traceparent: str

    def end(self, error: str = "") -> None: ...


class Tracer(Protocol):
    def begin(self, name: str, kind: Kind, parent: str, attributes: Attributes) -> Span:
        """Begins a span, or the first one of a new trace if there is no parent."""

    def close(self) -> None:
        """Exports what is left, for at most a few seconds."""


_current: ContextVar[str] = ContextVar(HEADER, default="")
_tracer: Tracer | None = None


def is_asked_for() -> bool:
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not is_off and any(os.environ.get(name) for name in _ENDPOINTS)


def use(tracer: Tracer | None) -> None:
    """Sets the tracer of this process."""
    global _tracer  # noqa: PLW0603 - a process has one, as it has one log
    _tracer = tracer


def is_on() -> bool:
    return _tracer is not None


def current() -> str:
    """Returns the `traceparent` of this task; empty without one."""
    return _current.get()


def trace_id(traceparent: str) -> str:
    """Returns the part of it that logs and errors show; empty for a text that is no traceparent."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found else ""


def outgoing() -> tuple[tuple[str, str], ...] | None:
    """Returns the metadata of a call that belongs to the trace of this task."""
    found = _current.get()
    return ((HEADER, found),) if found else None


def follow(traceparent: str) -> None:
    """Has this task, and those that it starts from now on, work on that trace."""
    _current.set(traceparent)


def begin(name: str, kind: Kind, parent: str, attributes: Attributes) -> Span | None:
    """Begins a span that another function ends; None if traces are off."""
    return _tracer.begin(name, kind, parent, attributes) if _tracer else None


@contextmanager
def span(
    name: str, kind: Kind = Kind.INTERNAL, parent: str | None = None, **attributes: str | int
) -> Iterator[str]:
    """Spans the block, if this task, or `parent`, is of a trace that is recorded.

    Yields the `traceparent` that belongs to what the block does. Must not be held over a `yield`.
    """
    of = _current.get() if parent is None else parent
    found = _TRACEPARENT.fullmatch(of) if _tracer and of else None
    if _tracer is None or found is None or not int(found[3], 16) & _RECORDED:
        yield of
        return
    begun = _tracer.begin(name, kind, of, attributes)
    token = _current.set(begun.traceparent)
    error = ""
    try:
        yield begun.traceparent
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        _current.reset(token)
        begun.end(error)
