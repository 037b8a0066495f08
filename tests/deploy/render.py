"""Renders the chart with helm, which `make charts` needs: `python -m tests.deploy.render`.

Its output is checked in, so that the tests need no helm. They fail when the chart or the values
have changed since.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.deploy import value_sets

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "herald"
RENDERED = Path(__file__).with_name("rendered")
DIGEST = RENDERED / "digest.txt"
REFUSALS = RENDERED / "refusals.json"


def digest() -> str:
    """Of all that the output depends on, but helm."""
    digest = hashlib.sha256()
    for file in sorted(file for file in CHART.rglob("*") if file.is_file()):
        digest.update(file.relative_to(CHART).as_posix().encode() + file.read_bytes())
    sets = [value_sets.RENDERED, value_sets.REFUSED]
    return hashlib.sha256(digest.digest() + json.dumps(sets).encode()).hexdigest()


def main() -> int:
    refusals = {}
    for old in RENDERED.glob("*.yaml"):
        old.unlink()
    for name, values in value_sets.RENDERED.items():
        for command in ("lint", "template"):
            done = _helm(command, values)
            if done.returncode:
                print(name, done.stdout, done.stderr, file=sys.stderr)
                return 1
        (RENDERED / f"{name}.yaml").write_text(done.stdout)
    for name, values in value_sets.REFUSED.items():
        done = _helm("template", values)
        if not done.returncode:
            print(f"{name}: was rendered", file=sys.stderr)
            return 1
        refusals[name] = done.stderr.splitlines()
    REFUSALS.write_text(json.dumps(refusals, indent=2) + "\n")
    DIGEST.write_text(digest() + "\n")
    return 0


def _helm(command: str, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    with TemporaryDirectory() as folder:
        file = Path(folder, "values.json")
        file.write_text(json.dumps(values))
        name = ["herald"] if command == "template" else []
        more = ["--kube-version", "1.33.0"] if command == "template" else ["--strict"]
        return subprocess.run(
            ["helm", command, *name, str(CHART), "--values", str(file), *more],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )


if __name__ == "__main__":
    sys.exit(main())
