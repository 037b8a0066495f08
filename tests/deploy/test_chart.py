"""The Helm chart, as it was rendered with many values."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy import environments, render, value_sets

OLDEST, NEWEST = "1.30", "1.37"
_SECRETS = {
    "HERALD_DATABASE_URL": "postgresql://herald:secret@db/herald",
    "HERALD_TOKEN": "herald_1_secret",
    "HERALD_NATS_URL": "nats://nats:4222",
    "HERALD_PUSH_URL": "http://gorush:8088/api/push",
}


@cache
def objects(case: str) -> list[dict[str, Any]]:
    """What is rendered with these values; not to be changed."""
    text = (render.RENDERED / f"{case}.yaml").read_text()
    # the loader in C takes a tenth of the time
    return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]


def pods(case: str) -> Iterator[dict[str, Any]]:
    for each in objects(case):
        if each["kind"] in ("Deployment", "Job"):
            yield each["spec"]["template"]


def of_kind(case: str, kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in objects(case) if each["kind"] == kind}


def test_the_rendered_charts_are_those_of_the_chart() -> None:
    assert render.DIGEST.read_text().strip() == render.digest(), "run: make charts"
    files = {file.stem for file in render.RENDERED.glob("*.yaml")}
    assert files == set(value_sets.RENDERED)


# the validator reads the schemas again for each object
@pytest.mark.nightly
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field(version: str) -> None:
    every = {json.dumps(each) for case in value_sets.RENDERED for each in objects(case)}

    for each in every:
        kubernetes_validate.validate(json.loads(each), version, strict=True)


@pytest.mark.parametrize("case", value_sets.RENDERED)
def test_no_pod_needs_root_or_a_file_to_write(case: str) -> None:
    for pod in pods(case):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "privileged": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests"} <= set(container["resources"])


@pytest.mark.parametrize("case", value_sets.RENDERED)
def test_every_pod_starts_with_its_environment_whose_secrets_are_references(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pod in pods(case):
        (container,) = pod["spec"]["containers"]
        (command,) = container["args"]
        given = {}
        for variable in container["env"]:
            is_reference = set(variable) == {"name", "valueFrom"}
            assert is_reference == (variable["name"] in _SECRETS)
            given[variable["name"]] = variable.get("value", _SECRETS.get(variable["name"]))
        environments.starts(command, given, monkeypatch)
        mounted = [mount["mountPath"] for mount in container.get("volumeMounts", ())]
        for name, value in given.items():
            if name.startswith("HERALD_TLS") and value.startswith("/"):
                assert mounted == [value.rpartition("/")[0]]


@pytest.mark.parametrize("case", value_sets.RENDERED)
def test_services_and_budgets_select_the_pods_and_probes_ask_their_ports(case: str) -> None:
    deployments = of_kind(case, "Deployment")
    for name, deployment in deployments.items():
        pod = deployment["spec"]["template"]
        assert deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
        for other in (of_kind(case, "Service"), of_kind(case, "PodDisruptionBudget")):
            if name in other:
                selector = other[name]["spec"]["selector"]
                assert selector.get("matchLabels", selector) == pod["metadata"]["labels"]
        (container,) = pod["spec"]["containers"]
        ports = {port["name"]: port for port in container.get("ports", ())}
        given = {
            variable["value"].rpartition(":")[2]
            for variable in container["env"]
            if variable["name"].endswith("_METRICS_LISTEN")
        }
        port = ports.pop("grpc", None)
        assert {str(each["containerPort"]) for each in ports.values()} == given
        assert all(each.endswith("-http") for each in ports)
        if port is None:
            continue
        (offered,) = of_kind(case, "Service")[name]["spec"]["ports"]
        assert offered["targetPort"] == port["name"]
        assert offered["port"] == port["containerPort"]
        ready = container["readinessProbe"]
        if "grpc" in ready:
            assert ready["grpc"]["port"] == port["containerPort"]
        else:
            assert f"127.0.0.1:{port['containerPort']}" in ready["exec"]["command"]
        assert container["livenessProbe"]["tcpSocket"] == {"port": port["name"]}
    target = {
        variable["value"]
        for pod in pods(case)
        for container in pod["spec"]["containers"]
        for variable in container["env"]
        if variable["name"] == "HERALD_SEGMENT_TARGET"
    }
    assert target <= {f"{name}:50051" for name in of_kind(case, "Service")}


@pytest.mark.parametrize("case", value_sets.RENDERED)
def test_the_schema_is_migrated_before_the_pods_of_a_release(case: str) -> None:
    (job,) = of_kind(case, "Job").values()

    annotations = job["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert "before-hook-creation" in annotations["helm.sh/hook-delete-policy"]
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]


def test_senders_are_scaled_apart() -> None:
    few, many = of_kind("protected", "Deployment"), of_kind("many-senders", "Deployment")

    assert many.pop("herald-send")["spec"]["replicas"] == 20
    assert few.pop("herald-send")["spec"]["replicas"] == 2
    assert few == many


def test_dispatchers_alone_have_neither_token_nor_certificate() -> None:
    deployments = of_kind("dispatchers-alone", "Deployment")

    spec = deployments["herald-dispatch"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    names = {variable["name"] for variable in container["env"]}
    assert spec["replicas"] == 2
    assert not any("TOKEN" in name or "TLS" in name for name in names)
    assert "volumes" not in spec["template"]["spec"]
    (server,) = deployments["herald-campaign"]["spec"]["template"]["spec"]["containers"]
    given = {variable["name"]: variable.get("value") for variable in server["env"]}
    assert given["HERALD_DISPATCHER_PROCESSES"] == "0"


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("no database", "database.existingSecret: name the secret"),
        ("nothing protects it", "or insecure: true"),
        ("tokens alone", "or insecure: true"),
        ("tls alone", "or insecure: true"),
        ("no name in the certificate", "tls.serverName: give the name"),
        ("a secret as a setting", "HERALD_DATABASE_URL: has a value of its own"),
        ("a token as a setting", "HERALD_TOKEN: has a value of its own"),
        ("a misspelt value", "sennder"),
        ("a number as text", "replicas"),
        ("a setting of somebody else", "DEBUG"),
    ],
)
def test_values_that_would_not_start_are_refused_with_the_reason(case: str, reason: str) -> None:
    assert case in value_sets.REFUSED
    refusals = json.loads(render.REFUSALS.read_text())

    assert any(reason in line for line in refusals[case])
