"""The examples of protos/examples against both servers, with TLS and tokens."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import pytest

from tests.clients.conftest import ServersToCall
from tests.clients.example import EXAMPLES, GO, JAVA, NODE, PYTHON, RUST, Example

pytestmark = [
    pytest.mark.xdist_group("clients"),
    # the first build loads and compiles what all later ones have
    pytest.mark.timeout(1800),
    pytest.mark.parametrize(
        "example",
        [
            PYTHON,
            NODE,
            GO,
            pytest.param(JAVA, marks=pytest.mark.nightly),
            pytest.param(RUST, marks=pytest.mark.nightly),
        ],
        ids=lambda example: example.language,
    ),
]

_STEPS: list[dict[str, Any]] = json.loads((EXAMPLES / "steps.json").read_text(encoding="utf-8"))


def is_here(
    example: Example, environment: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> bool:
    """Builds it, unless its tools are missing, which is said in one line."""
    if missing := example.missing():
        with capsys.disabled():
            print(f"\nthe example in {example.language} is not tested: {missing}")
        return False
    example.build(environment)
    return True


def test_the_main_job_is_done_in_each_language(
    example: Example, to_call: ServersToCall, capsys: pytest.CaptureFixture[str]
) -> None:
    if is_here(example, to_call.environment, capsys):
        output = example.run_main_job(to_call.environment)

        assert output.splitlines()[-1] == "completed: 5 of 5 sent"


def test_every_step_ends_as_it_should_in_each_language(
    example: Example, to_call: ServersToCall, capsys: pytest.CaptureFixture[str]
) -> None:
    if is_here(example, to_call.environment, capsys):
        output = example.run_steps(example.language, to_call.environment)

        ends = [json.loads(line) for line in output.splitlines()]
        assert len(ends) == len(_STEPS)
        problems = {
            step["step"]: found
            for step, end in zip(_STEPS, ends, strict=True)
            if (found := list(differences(for_run(step, example.language), end)))
        }
        assert problems == {}
        assert_no_event_came_twice(ends)


def for_run(step: dict[str, Any], run: str) -> dict[str, Any]:
    filled: dict[str, Any] = json.loads(json.dumps(step).replace("${run}", run))
    return filled


def differences(step: dict[str, Any], end: dict[str, Any]) -> Iterator[str]:
    """How the end of a step differs from what it should be."""
    code = grpc.StatusCode[step.get("code", "OK")]
    wanted = {"code": code.value[0], "reason": step.get("reason", "")}
    for name, value in wanted.items():
        if end[name] != value:
            yield f"{name} is {end[name]!r}, not {value!r}"
    if "answers" in step and len(end["answers"]) != step["answers"]:
        yield f"{len(end['answers'])} answers, not {step['answers']}"
    for name, value in step.get("metadata", {}).items():
        if end["metadata"].get(name) != value:
            yield f"metadata.{name} is {end['metadata'].get(name)!r}, not {value!r}"
    if "answer" in step:
        yield from missing_in(end["answers"][-1] if end["answers"] else None, step["answer"], "")


def missing_in(found: Any, wanted: Any, path: str) -> Iterator[str]:
    """Where an answer lacks a wanted part; null means an unset field."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name, value in wanted.items():
            yield from missing_in(found.get(name), value, f"{path}.{name}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            yield from missing_in(one, other, f"{path}[{number}]")
    elif found != wanted:
        yield f"{path} is {found!r}, not {wanted!r}"


def assert_no_event_came_twice(ends: list[dict[str, Any]]) -> None:
    streams = [
        {event["id"] for answer in end["answers"] for event in answer.get("events", ())}
        for step, end in zip(_STEPS, ends, strict=True)
        if step["call"].endswith("/StreamEvents")
    ]
    assert sum(map(len, streams)) == len(set().union(*streams)) >= 2
