"""Makes the calls of a file of steps, and prints the end of each as a line of JSON.

Usage: python steps.py STEPS.json RUN, with the environment of main_job.py.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from herald_client import CALL_SECONDS, bearer, campaign_channel, error_info, segment_channel

Values = dict[str, str]


def filled_in(value: Any, values: Values) -> Any:
    """The same, with the value of each ${name} in its place."""
    text = json.dumps(value)
    for name, known in values.items():
        text = text.replace("${" + name + "}", json.dumps(known)[1:-1])
    return json.loads(text)


def answers_of(
    step: dict[str, Any], values: Values, channels: dict[str, grpc.Channel]
) -> Iterator[Any]:
    """Yields each answer as JSON, up to the one that the step waits for."""
    service_name, method_name = step["call"].split("/")
    package = service_name.rpartition(".")[0]
    import_module(f"{package}.{package.split('.')[1]}_service_pb2")
    service = descriptor_pool.Default().FindServiceByName(service_name)
    method = service.methods_by_name[method_name]
    request = message_factory.GetMessageClass(method.input_type)()
    json_format.ParseDict(filled_in(step["request"], values), request)
    token = filled_in(step.get("token", os.environ.get("HERALD_TOKEN", "")), values)
    until = filled_in(step.get("until", ""), values)
    # one answer is a short stream
    call = channels[package].unary_stream(
        f"/{step['call']}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    stream = call(request, timeout=step.get("seconds", CALL_SECONDS), metadata=bearer(token))
    for response in stream:
        answer = json_format.MessageToDict(response)
        yield answer
        if until and until in json.dumps(answer, ensure_ascii=False):
            stream.cancel()
            return


def field(answer: Any, path: str) -> str:
    for name in path.split("."):
        answer = answer.get(name, {})
    return answer or ""


def main(file: str, run: str) -> None:
    values: Values = {"run": run}
    with segment_channel() as segment, campaign_channel() as campaign:
        channels = {"herald.chat.v1": segment, "herald.segment.v1": segment}
        channels |= {f"herald.{name}.v1": campaign for name in ("campaign", "event", "access")}
        for step in json.loads(Path(file).read_text(encoding="utf-8")):
            answers: list[Any] = []
            code, reason = 0, ""
            metadata: Mapping[str, str] = {}
            try:
                answers.extend(answers_of(step, values, channels))
            except grpc.RpcError as error:
                code = error.code().value[0]
                reason, metadata = error_info(error)
            if answers:
                values |= {
                    name: field(answers[-1], path) for name, path in step.get("keep", {}).items()
                }
            print(
                json.dumps(
                    {"code": code, "reason": reason, "metadata": metadata, "answers": answers}
                ),
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
