"""Traces that are off cost nothing, and those that can't be recorded stop nothing."""

import subprocess
import sys

import pytest

from herald_rpc import tracing
from herald_rpc.process.otlp import traced

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
IMPORT = """
import sys
import campaign_service.commands.serve, campaign_service.commands.send
import campaign_service.commands.dispatch, segment_service.server
from herald_rpc.process.otlp import traced
with traced("herald"):
    pass
print([name for name in ("opentelemetry", "prometheus_client") if name in sys.modules])
"""


@pytest.mark.nightly
def test_without_metrics_and_traces_their_libraries_are_not_imported() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True, env={}
    )

    assert ran.stdout == "[]\n"


def test_a_span_without_a_tracer_passes_the_trace_on() -> None:
    with tracing.span("page", parent=TRACEPARENT) as passed_on:
        assert passed_on == TRACEPARENT
    assert tracing.begin("page", tracing.Kind.SERVER, TRACEPARENT, {}) is None


@pytest.mark.parametrize("text", ["", "00-zz-1-01", TRACEPARENT + "-x", "0af7651916cd43dd"])
def test_what_is_no_traceparent_has_no_trace(text: str) -> None:
    assert tracing.trace_id(text) == ""


def test_the_sdk_can_be_switched_off_by_its_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")

    with traced("herald"):
        assert not tracing.is_on()


def test_a_process_without_the_packages_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "herald_rpc.process.otlp_tracer", None)

    with traced("herald"):
        assert not tracing.is_on()

    assert "install Herald with its extra" in capsys.readouterr().out


def test_a_span_of_a_failed_block_says_which_error() -> None:
    class Noted:
        traceparent = TRACEPARENT
        errors: list[str] = []  # noqa: RUF012 - one span

        def end(self, error: str = "") -> None:
            self.errors.append(error)

    class Tracer:
        def begin(self, *_: object) -> Noted:
            return Noted()

        def close(self) -> None: ...

    tracing.use(Tracer())
    try:
        with pytest.raises(ZeroDivisionError), tracing.span("page", parent=TRACEPARENT):
            raise ZeroDivisionError
        with tracing.span("page", parent=TRACEPARENT):
            pass
    finally:
        tracing.use(None)

    assert Noted.errors == ["ZeroDivisionError", ""]
