"""A wrong setting ends the process by name; a secret one is never shown."""

import os
from collections.abc import Iterator
from itertools import pairwise

import pytest
from pydantic import Field, SecretStr, ValidationError

from campaign_service.settings import CampaignSettings
from herald_rpc.process.settings import VARIABLES_OF_SERVICES, ServerSettings, load
from segment_service.settings import SegmentSettings


class WebhookSettings(ServerSettings):
    webhook_key: SecretStr = SecretStr("")
    webhook_hosts: list[str] = Field(default_factory=list)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("HERALD_"):
            monkeypatch.delenv(name)


def test_without_settings_a_server_runs_on_an_embedded_database() -> None:
    settings = load(ServerSettings)

    assert settings.described() == {
        "HERALD_AUDIT_RETENTION_DAYS": "0",
        "HERALD_AUTH": "none",
        "HERALD_DATABASE_URL": "sqlite+aiosqlite:///data/herald.db",
        "HERALD_GRACE_SECONDS": "10.0",
        "HERALD_INSECURE": "False",
        "HERALD_LOG_FORMAT": "",
        "HERALD_LOG_LEVEL": "INFO",
        "HERALD_MAX_CALLS": "256",
        "HERALD_MAX_STREAMS": "1024",
        "HERALD_REFLECTION": "True",
        "HERALD_START_TIMEOUT_SECONDS": "0.0",
        "HERALD_TLS_CERT": "",
        "HERALD_TLS_CLIENT_CA": "",
        "HERALD_TLS_KEY": "",
        "HERALD_TOKEN_CALLS_PER_SECOND": "",
    }


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("sqlite:///a/b.db", "sqlite+aiosqlite:///a/b.db"),
        ("sqlite+aiosqlite:////var/b.db", "sqlite+aiosqlite:////var/b.db"),
        ("postgresql://u@h:1/d?ssl=require", "postgresql+asyncpg://u@h:1/d?ssl=require"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
    ],
)
def test_a_database_url_gets_its_asynchronous_driver(
    given: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERALD_DATABASE_URL", given)

    assert load(ServerSettings).database_url == used


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HERALD_DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("HERALD_DATABASE_URL", "postgresql+psycopg://u:hunter2@h/d"),
        ("HERALD_DATABASE_URL", "hunter2"),
        ("HERALD_DATABASE_URL", "sqlite://"),
        ("HERALD_GRACE_SECONDS", "0"),
        ("HERALD_GRACE_SECONDS", "inf"),
        ("HERALD_GRACE_SECONDS", "hunter2"),
        ("HERALD_LOG_LEVEL", "hunter2"),
        ("HERALD_LOG_FORMAT", "hunter2"),
        ("HERALD_REFLECTION", "hunter2"),
        ("HERALD_WEBHOOK_HOSTS", "hunter2"),
    ],
)
def test_a_wrong_setting_ends_the_process_and_is_named_without_its_value(
    name: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        load(WebhookSettings)

    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert name in printed.err
    assert "hunter2" not in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


def test_every_wrong_setting_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HERALD_LOG_LEVEL", "loud")
    monkeypatch.setenv("HERALD_GRACE_SECONDS", "-1")

    with pytest.raises(SystemExit):
        load(ServerSettings)

    lines = capsys.readouterr().err.splitlines()
    assert {line.partition(":")[0] for line in lines} == {
        "HERALD_LOG_LEVEL",
        "HERALD_GRACE_SECONDS",
    }


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://herald:hunter2@db/d", "postgresql+asyncpg://herald:***@db/d"),
        ("postgresql://herald:hun@ter2/?#@db/d", "postgresql+asyncpg://***"),
        (
            "postgresql://db:5432/d?user=u&password=hun@ter2&sslmode=require",
            "postgresql+asyncpg://***",
        ),
        (
            "postgresql://a:1,b:2/d?user=u&password=hunter2&sslmode=require",
            "postgresql+asyncpg://a:1,b:2/d?user=u&password=***&sslmode=require",
        ),
        ("postgresql://db/d?password=hun&ter2", "postgresql+asyncpg://db/d?password=***&***"),
        ("postgresql://db/d?p%61ssword=hunter2", "postgresql+asyncpg://db/d?p%61ssword=***"),
        ("sqlite:////srv/a@b/herald.db", "sqlite+aiosqlite:////srv/a@b/herald.db"),
        ("postgresql://:hunter2@db/d", "postgresql+asyncpg://:***@db/d"),
        (
            "postgresql://db/d?user=u&password=hunter2&ssl=on",
            "postgresql+asyncpg://db/d?user=u&password=***&ssl=on",
        ),
        ("postgresql://herald@db:5432/d", "postgresql+asyncpg://herald@db:5432/d"),
    ],
)
def test_settings_are_described_without_secrets(
    url: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERALD_DATABASE_URL", url)
    monkeypatch.setenv("HERALD_WEBHOOK_KEY", "hunter2")

    settings = load(WebhookSettings)
    described = settings.described()

    assert described["HERALD_DATABASE_URL"] == shown
    assert settings.webhook_key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings) + repr(described)
    assert "ter2" not in repr(settings) + repr(described)


def test_a_wrong_value_is_not_in_the_error_either() -> None:
    with pytest.raises(ValidationError) as raised:
        ServerSettings(database_url="mysql://u:hunter2@h/d")

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "gateway:8088",
        "ftp://gateway/",
        "http://",
        "http:///api/push",
        "http://gateway:hunter2/",
        "//",
    ],
)
def test_a_push_gateway_that_can_t_be_posted_to_is_refused_without_its_url(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HERALD_PUSH_URL", url)

    with pytest.raises(SystemExit):
        load(CampaignSettings)

    problem = "must be http://host:port/path or https://…"
    assert capsys.readouterr().err == f"HERALD_PUSH_URL: {problem}\n"


def test_the_password_of_a_push_gateway_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERALD_PUSH_URL", "https://herald:hunter2@gateway:8088/api/push")

    settings = load(CampaignSettings)

    assert settings.described()["HERALD_PUSH_URL"] == "https://herald:***@gateway:8088/api/push"
    assert "hunter2" not in repr(settings)


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERALD_GRACE_SECONDS", "")

    assert load(ServerSettings).grace_seconds == 10


def test_the_level_of_the_log_can_be_written_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERALD_LOG_LEVEL", "debug")

    assert load(ServerSettings).log_level == "DEBUG"


@pytest.mark.parametrize("service", [SegmentSettings, CampaignSettings])
def test_a_server_takes_no_notice_of_the_variables_of_another_service(
    service: type[ServerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in service.model_fields:
        monkeypatch.setenv(f"HERALD_{name.upper()}", str(service.model_fields[name].default or ""))

    for other in (ServerSettings, SegmentSettings, CampaignSettings):
        assert load(other) == other()


def test_each_setting_of_a_service_is_known_to_all() -> None:
    names = {*SegmentSettings.model_fields, *CampaignSettings.model_fields}
    own = names - ServerSettings.model_fields.keys()

    assert {f"HERALD_{name.upper()}" for name in own} == VARIABLES_OF_SERVICES


def _misspelled(name: str) -> Iterator[str]:
    """The name without one letter of its last word, and with two of them exchanged."""
    start = name.rindex("_") + 1
    for at in range(start, len(name)):
        yield name[:at] + name[at + 1 :]
    for (at, one), (_, other) in pairwise(enumerate(name)):
        if at >= start and one != other:
            yield name[:at] + other + one + name[at + 2 :]


@pytest.mark.parametrize("settings", [SegmentSettings, CampaignSettings])
def test_an_unknown_variable_is_named_with_the_nearest_known_one(
    settings: type[ServerSettings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = {
        given: f"HERALD_{name.upper()}"
        for name in settings.model_fields
        for given in _misspelled(f"HERALD_{name.upper()}")
    }
    for given in wrong:
        monkeypatch.setenv(given, "hunter2")

    with pytest.raises(SystemExit) as ended:
        load(settings)

    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert set(lines) == {
        f"{given}: there is no such setting; is {meant} meant?" for given, meant in wrong.items()
    }


@pytest.mark.parametrize("name", ["HERALD_", "HERALD_QQ", "herald_nonsense", "HERALD_XYZ_PORTS"])
def test_an_unknown_variable_that_is_like_no_other_is_named_alone(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "hunter2")

    with pytest.raises(SystemExit):
        load(ServerSettings)

    assert capsys.readouterr().err == f"{name}: there is no such setting\n"


@pytest.mark.parametrize(
    "name",
    [
        "HERALD_SERVICE_HOST",
        "HERALD_SEGMENT_SERVICE_PORT",
        "HERALD_SEGMENT_SERVICE_PORT_GRPC",
        "HERALD_SEGMENT_PORT",
        "HERALD_SEGMENT_PORT_50051_TCP",
        "HERALD_SEGMENT_PORT_50051_TCP_ADDR",
    ],
)
def test_variables_that_kubernetes_sets_are_no_settings(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:50051")

    assert load(ServerSettings) == ServerSettings()


@pytest.mark.parametrize(
    "target", ["segment", "a:1,b", "127.0.0.1:1,b", "127.0.0.1:99999", "a:1,b:0", "http://a:1", ","]
)
def test_a_target_that_can_not_be_reached_is_named_before_the_start(
    target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HERALD_SEGMENT_TARGET", target)

    with pytest.raises(SystemExit) as ended:
        load(CampaignSettings)

    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"HERALD_SEGMENT_TARGET: {target!r} is not host:port")


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("HERALD_TLS_CERT", "HERALD_TLS_KEY"),
        ("HERALD_TLS_KEY", "HERALD_TLS_CERT"),
        ("HERALD_TLS_CLIENT_CA", "HERALD_TLS_CERT"),
        ("HERALD_TLS_CLIENT_CERT", "HERALD_TLS_CLIENT_KEY"),
        ("HERALD_TLS_CLIENT_KEY", "HERALD_TLS_CLIENT_CERT"),
        ("HERALD_TLS_SERVER_NAME", "HERALD_TLS_CA"),
    ],
)
def test_half_of_what_tls_needs_is_refused_with_what_is_missing(
    given: str,
    missing: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(given, "file")

    with pytest.raises(SystemExit) as ended:
        load(CampaignSettings)

    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert given in line
    assert line.endswith((f"need {missing}", f"needs {missing}"))


def test_settings_do_not_change_after_they_were_read() -> None:
    settings = load(ServerSettings)

    with pytest.raises(ValidationError, match="frozen"):
        settings.reflection = False
