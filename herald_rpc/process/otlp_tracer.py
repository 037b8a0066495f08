"""The tracer that OpenTelemetry's variables set up."""

from threading import Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from herald_rpc.tracing import HEADER, Attributes, Kind, Span

_KINDS = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.PRODUCER: SpanKind.PRODUCER,
}
_PROPAGATOR = TraceContextTextMapPropagator()


class OtlpTracer:
    """Exports in a thread of its own. A collector that is down costs spans, and no time."""

    def __init__(self, service: str, flush_seconds: float) -> None:
        named = Resource({SERVICE_NAME: service}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=named, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(timeout=flush_seconds)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._flush_seconds = flush_seconds
        self._tracer = self._provider.get_tracer("herald")

    def begin(self, name: str, kind: Kind, parent: str, attributes: Attributes) -> Span:
        context = _PROPAGATOR.extract({HEADER: parent})
        return _Span(self._tracer.start_span(name, context, _KINDS[kind], dict(attributes)))

    def close(self) -> None:
        # the SDK waits for up to 30 s for a collector that hangs
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(self._flush_seconds)


class _Span:
    def __init__(self, span: SdkSpan) -> None:
        self._span = span
        context = span.get_span_context()
        ids = f"{context.trace_id:032x}-{context.span_id:016x}"
        self.traceparent = f"00-{ids}-{int(context.trace_flags):02x}"

    def end(self, error: str = "") -> None:
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()
