"""The examples of protos/examples against both servers, with TLS and tokens."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.conftest import ServersToCall
from tests.clients.differences import differences
from tests.clients.example import (
    EXAMPLES,
    GO,
    JAVA,
    NODE,
    PYTHON,
    RUST,
    Example,
    NoRegistryError,
)
from tests.harness.not_tested import NOT_TESTED

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


@pytest.fixture
def built(example: Example, record_property: Callable[[str, str], None]) -> Example | None:
    """None if its tools or packages are not here, which the end of the run says."""
    missing = example.missing()
    if not missing:
        try:
            example.build()
        except NoRegistryError as error:
            missing = str(error)
        else:
            return example
    record_property(NOT_TESTED, f"the example in {example.language}: {missing}")
    return None


def test_the_main_job_is_done_in_each_language(
    built: Example | None, to_call: ServersToCall
) -> None:
    if built:
        output = built.run_main_job(to_call.environment)

        assert output.splitlines()[-1] == "CAMPAIGN_STATUS_COMPLETED: 5 of 5 sent"


def test_every_step_ends_as_it_should_in_each_language(
    built: Example | None, to_call: ServersToCall
) -> None:
    if built:
        output = built.run_steps(built.language, to_call.environment)

        ends = [json.loads(line) for line in output.splitlines()]
        assert len(ends) == len(_STEPS)
        problems = {
            step["step"]: found
            for step, end in zip(_STEPS, ends, strict=True)
            if (found := list(differences(for_run(step, built.language), end)))
        }
        assert problems == {}
        assert_no_event_came_twice(ends)


def for_run(step: dict[str, Any], run: str) -> dict[str, Any]:
    filled: dict[str, Any] = json.loads(json.dumps(step).replace("${run}", run))
    return filled


def assert_no_event_came_twice(ends: list[dict[str, Any]]) -> None:
    streams = [
        {event["id"] for answer in end["answers"] for event in answer.get("events", ())}
        for step, end in zip(_STEPS, ends, strict=True)
        if step["call"].endswith("/StreamEvents")
    ]
    assert sum(map(len, streams)) == len(set().union(*streams)) >= 2
