"""The image, the compose file and the systemd units, as far as a machine without engines can tell."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from campaign_service.command_line import app
from tests.deploy import environments

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"), key=lambda unit: unit.name)
COMMANDS: Any = typer.main.get_command(app)
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: each for name, each in COMPOSE["services"].items() if each["image"] == "herald:local"}


def test_hadolint_has_no_complaint_about_the_image() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")

    done = subprocess.run(
        [hadolint, "--no-color", DEPLOY / "Containerfile"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_built_from_all_that_the_wheel_has_and_runs_as_nobody() -> None:
    lines = (DEPLOY / "Containerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()

    copied = [
        word
        for line in re.findall(r"^COPY (?!--)(.*) \S+$", lines, re.MULTILINE)
        for word in line.split()
    ]
    for path in [*packages, "LICENSE", "README.md", "pyproject.toml"]:
        assert any(path == each or path.startswith(f"{each}/") for each in copied), path
        assert any(path == each[1:] or path.startswith(f"{each[1:]}/") for each in ignored), path
    assert all((ROOT / path).exists() for path in copied)
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", lines, re.MULTILINE)


@pytest.mark.parametrize("name", OURS)
def test_each_service_of_the_compose_file_starts_without_root(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = OURS[name]
    (command,) = service["command"]

    assert command in COMMANDS.commands
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] == "10001:10001"
    environments.starts(command, service["environment"], monkeypatch)


def test_nothing_of_the_compose_file_is_reached_from_other_machines() -> None:
    ports = [port for each in COMPOSE["services"].values() for port in each.get("ports", ())]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_whatever_the_compose_file_refers_to_is_in_it() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
        assert {each["source"] for each in service.get("configs", ())} <= set(COMPOSE["configs"])
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert volumes <= set(COMPOSE["volumes"])
        if command := service.get("healthcheck", {}).get("test"):
            assert command[0] == "CMD"
            assert command[1] == "pg_isready" or command[1:3] == ["herald", "health"]


def lines_of(unit: Path) -> dict[str, str]:
    """The settings of a unit; of one that is repeated, the last."""
    pairs = [line.partition("=") for line in unit.read_text().splitlines() if "=" in line]
    return {name: value for name, _, value in pairs if not name.startswith("#")}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_unit_runs_a_command_without_rights(unit: Path) -> None:
    settings = lines_of(unit)

    program, command = settings["ExecStart"].split()
    assert program == "/opt/herald/bin/herald"
    assert command in COMMANDS.commands
    assert settings["DynamicUser"] == "yes"
    assert settings["CapabilityBoundingSet"] == ""
    assert settings["ProtectSystem"] == "strict"
    assert settings["Type"] == ("oneshot" if command == "migrate" else "notify")


def test_the_example_of_the_units_environment_has_known_variables_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (DEPLOY / "systemd" / "herald.env").read_text()
    pairs = re.findall(r"^#?(HERALD_\w+)=(.*)$", text, re.MULTILINE)

    assert len(pairs) > 5
    environments.starts("campaign", dict(pairs), monkeypatch)


def test_all_units_are_equally_hardened() -> None:
    hardened = {
        unit.read_text().partition("DynamicUser=")[2].partition("\n\n")[0].strip() for unit in UNITS
    }

    assert len(UNITS) == 5
    assert len(hardened) == 1
