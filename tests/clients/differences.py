"""How the end of a step differs from what the step says."""

from collections.abc import Iterator
from typing import Any

import grpc


def differences(step: dict[str, Any], end: dict[str, Any]) -> Iterator[str]:
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
