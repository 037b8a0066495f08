"""Makes the calls of a file of steps, and prints the end of each as a line of JSON.

Usage: python steps.py STEPS.json RUN, with the environment of main_job.py.
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format, message_factory, symbol_database
from herald_client import CALL_SECONDS, bearer, campaign_channel, error_info, segment_channel

Values = dict[str, str]


def filled_in(value: Any, values: Values) -> Any:
    """The same, with the value of each ${name} in its place."""
    text = json.dumps(value)
    for name, known in values.items():
        text = text.replace("${" + name + "}", json.dumps(known)[1:-1])
    return json.loads(text)


def answers_of(step: dict[str, Any], values: Values, channels: dict[str, grpc.Channel]) -> Any:
    """Yields each answer as JSON, up to the one that the step waits for."""
    service_name, method_name = step["call"].split("/")
    package = service_name.rpartition(".")[0]
    import_module(f"{package}.{package.split('.')[1]}_service_pb2")
    service = symbol_database.Default().pool.FindServiceByName(service_name)
    method = service.methods_by_name[method_name]
    channel = channels[package]
    open_call = channel.unary_stream if method.server_streaming else channel.unary_unary
    call = open_call(
        f"/{step['call']}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    request = message_factory.GetMessageClass(method.input_type)()
    json_format.ParseDict(filled_in(step["request"], values), request)
    token = filled_in(step.get("token", os.environ.get("HERALD_TOKEN", "")), values)
    outcome = call(request, timeout=step.get("seconds", CALL_SECONDS), metadata=bearer(token))
    if not method.server_streaming:
        yield json_format.MessageToDict(outcome)
        return
    until = filled_in(step.get("until", ""), values)
    for response in outcome:
        answer = json_format.MessageToDict(response)
        yield answer
        if until and until in json.dumps(answer, ensure_ascii=False):
            outcome.cancel()
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
            code, reason, metadata = 0, "", {}
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
