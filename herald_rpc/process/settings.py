"""Settings of both servers, read from HERALD_* variables and checked before anything starts."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, NoReturn, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from herald_rpc.addresses import host_and_port
from herald_rpc.certificates import CertificateFiles, reload_all
from herald_rpc.client.channels import ChannelSecurity, require_confidential
from herald_rpc.process.logs import LogFormat
from herald_rpc.process.masking import masked
from herald_rpc.server.admission import DEFAULT_LIMITS, CallLimits
from herald_rpc.server.serving import Protection

ENV_PREFIX = "HERALD_"
EXIT_CODE = 2

_TOKEN = re.compile(r"herald_[0-9a-z]+_[0-9A-Za-z_-]+")

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


# All servers may be started from one environment, so each knows the others' variables.
VARIABLES_OF_SERVICES = frozenset(
    """
    HERALD_CAMPAIGN_LISTEN HERALD_CAMPAIGN_METRICS_LISTEN HERALD_DISPATCHER_METRICS_LISTEN
    HERALD_DISPATCHER_PROCESSES HERALD_EVENT_RETENTION_DAYS HERALD_LEASE_SECONDS
    HERALD_MAX_MESSAGES_PER_SECOND HERALD_MONTHLY_QUOTA HERALD_MULTI_TENANCY
    HERALD_NATS_STREAM HERALD_NATS_URL HERALD_PAGE_SIZE HERALD_PUSH_TTL_SECONDS
    HERALD_PUSH_URL HERALD_SEGMENT_LISTEN HERALD_SEGMENT_METRICS_LISTEN HERALD_SEGMENT_TARGET
    HERALD_SENDER_METRICS_LISTEN HERALD_SENDER_NICENESS HERALD_SENDER_PROCESSES
    HERALD_SENDER_SLOTS HERALD_SIZING_INTERVAL_SECONDS HERALD_START_HELD HERALD_TLS_CA
    HERALD_TLS_CLIENT_CERT HERALD_TLS_CLIENT_KEY HERALD_TLS_SERVER_NAME HERALD_TOKEN
    HERALD_WEBHOOK_ALLOW HERALD_WEBHOOK_DENY
    """.split()
)
"""The variables of all services' own settings, in addition to those of `ServerSettings`."""

# used by tests that kill a server, and by the examples of callers, in the same shell perhaps
_OTHER_VARIABLES = frozenset({"HERALD_CRASH_AT", "HERALD_CAMPAIGN_TARGET"})
# Kubernetes sets these in each container, for services whose names begin with "herald"
_OF_KUBERNETES = re.compile(
    r"\w+_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
]


_CONFIG = SettingsConfigDict(
    env_prefix=ENV_PREFIX,
    env_ignore_empty=True,
    extra="ignore",
    frozen=True,
    hide_input_in_errors=True,
)


def _listenable(listen: str) -> str:
    if listen:
        host_and_port(listen)
    return listen


MetricsListen = Annotated[str, AfterValidator(_listenable)]
"""Where `/metrics`, `/livez` and `/readyz` are served by HTTP: `host:port`, or a port of loopback.

Empty: nowhere.
"""


class _Settings(BaseSettings):
    model_config = _CONFIG

    insecure: bool = False
    """Whether a server without TLS or tokens may listen beyond loopback, and tokens go there."""


class ClientSettings(_Settings):
    """How a process of Herald's calls a server of Herald's."""

    tls_ca: Path | None = None
    """The CAs of the servers' certificates in PEM; unset: they are called in plain text."""

    tls_client_cert: Path | None = None
    """The certificate chain with which servers are called that demand one."""

    tls_client_key: Path | None = None
    """The key of `tls_client_cert` in PEM, without a password."""

    tls_server_name: str = ""
    """The name in the servers' certificates, if it is not that of the target."""

    token: SecretStr = SecretStr("")
    """The token with which servers are called that demand one."""

    @field_validator("token")
    @classmethod
    def _can_be_sent(cls, token: SecretStr) -> SecretStr:
        # the text of a metadata value, and so of a log line, too
        if token.get_secret_value() and not _TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError("must be a token: herald_<id>_<secret>")
        return token

    @model_validator(mode="after")
    def _can_use_tls(self) -> Self:
        require_pair(
            self.tls_client_cert,
            self.tls_client_key,
            "HERALD_TLS_CLIENT_CERT",
            "HERALD_TLS_CLIENT_KEY",
        )
        if (self.tls_client_cert or self.tls_server_name) and not self.tls_ca:
            raise ValueError("HERALD_TLS_CLIENT_CERT and HERALD_TLS_SERVER_NAME need HERALD_TLS_CA")
        return self

    @property
    def channel_security(self) -> ChannelSecurity:
        files = CertificateFiles(self.tls_client_cert, self.tls_client_key, self.tls_ca)
        return ChannelSecurity(files, self.tls_server_name, self.token.get_secret_value())

    def require_confidential(self, target: str) -> None:
        """Raises ValueError if the token would go there in plain text, unless that is allowed."""
        if not self.insecure:
            require_confidential(target, self.channel_security)


class ServerSettings(_Settings):
    """The settings of both servers; each service extends them by its own.

    An empty variable counts as unset. Validators of subclasses must not put secrets into their
    messages, because these are printed.
    """

    database_url: str = Field(default="sqlite+aiosqlite:///data/herald.db", repr=False)
    """With its async driver, which is added to `sqlite:///…` and `postgresql://…`."""

    log_level: LogLevel = "INFO"

    log_format: LogFormat | None = None
    """Unset: `console` on a terminal, otherwise `json`."""

    grace_seconds: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Seconds that calls in progress may continue after a stop signal."""

    start_timeout_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Seconds that a start waits for a PostgreSQL that is down; 0: without limit."""

    reflection: bool = True

    max_calls: int = Field(default=DEFAULT_LIMITS.calls, ge=1)
    """Calls that a server handles at once; more are refused as RESOURCE_EXHAUSTED."""

    max_streams: int = Field(default=DEFAULT_LIMITS.streams, ge=1)
    """Streams that a server handles at once; they do not count as calls."""

    tls_cert: Path | None = None
    """The server's certificate chain in PEM; unset: plain text."""

    tls_key: Path | None = None
    """The key of `tls_cert` in PEM, without a password."""

    tls_client_ca: Path | None = None
    """The CAs of the client certificates that callers must have; unset: they need none."""

    auth: Literal["none", "tokens"] = "none"
    """Whether callers need a token."""

    token_calls_per_second: int | None = Field(default=None, ge=1)
    """Calls a second that a server takes of each token; unset: any number."""

    audit_retention_days: int = Field(default=0, ge=0, le=36_500)
    """Days for which audit rows are kept; 0: for ever."""

    @model_validator(mode="after")
    def _has_whole_pairs(self) -> Self:
        require_pair(self.tls_cert, self.tls_key, "HERALD_TLS_CERT", "HERALD_TLS_KEY")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError("HERALD_TLS_CLIENT_CA needs HERALD_TLS_CERT")
        if self.token_calls_per_second and self.auth != "tokens":
            raise ValueError("HERALD_TOKEN_CALLS_PER_SECOND needs HERALD_AUTH=tokens")
        return self

    @field_validator("database_url")
    @classmethod
    def _with_async_driver(cls, url: str) -> str:
        scheme, separator, rest = url.partition("://")
        driver = _DRIVERS.get(scheme)
        if not separator or driver is None or not rest.strip("/"):
            raise ValueError("must be sqlite:///path or postgresql://user:password@host/database")
        return f"{driver}://{rest}"

    @property
    def start_wait_seconds(self) -> float | None:
        """Seconds that a start waits for the database; None means without limit.

        A PostgreSQL that is down comes back, but a file that can't be opened does not.
        """
        if not self.database_url.startswith("postgresql"):
            return 0.0
        return self.start_timeout_seconds or None

    @property
    def call_limits(self) -> CallLimits:
        return CallLimits(calls=self.max_calls, streams=self.max_streams)

    @property
    def protection(self) -> Protection:
        files = CertificateFiles(self.tls_cert, self.tls_key, self.tls_client_ca)
        return Protection(
            files if self.tls_cert else None,
            tokens=self.auth == "tokens",
            insecure=self.insecure,
        )

    @property
    def audit_retention(self) -> timedelta | None:
        """How long audit rows are kept; None: for ever."""
        return timedelta(days=self.audit_retention_days) if self.audit_retention_days else None

    @property
    def on_hangup(self) -> Callable[[], None] | None:
        """The handler of SIGHUP: with TLS it reloads the certificates; None: SIGHUP stops the process."""
        return reload_all if self.tls_cert else None

    def described(self) -> dict[str, str]:
        """Returns every setting by the name of its variable, with all secrets masked."""
        return {
            _variable(name): _shown(getattr(self, name)) for name in sorted(type(self).model_fields)
        }


def require_pair(one: Path | None, other: Path | None, name: str, other_name: str) -> None:
    """Raises ValueError if only one of them is set."""
    if (one is None) is not (other is None):
        given, missing = (name, other_name) if one else (other_name, name)
        raise ValueError(f"{given} needs {missing}")


_Loaded = TypeVar("_Loaded", bound=ServerSettings)


def load(settings_class: type[_Loaded]) -> _Loaded:
    """Reads the settings, or ends the process with code 2.

    Before it ends, standard error has a line for each variable that is wrong or unknown, without
    its value.
    """
    problems = list(_unknown_variables(settings_class))
    try:
        settings = settings_class()
    except ValidationError as error:
        problems += [
            f"{_variable(*problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        ]
    except SettingsError as error:
        problems.append(re.sub(r'field "(\w+)"', lambda field: _variable(field[1]), str(error)))
    else:
        if not problems:
            return settings
    return _end(problems)


def require_known_variables(settings_class: type[ServerSettings]) -> None:
    """Ends the process as `load` does if a variable is unknown, without reading the others.

    For commands that read few of them: a misspelt HERALD_DATABASE_URL must not make one work on
    another database than the one that was meant.
    """
    if problems := list(_unknown_variables(settings_class)):
        _end(problems)


def _end(problems: Iterable[str]) -> NoReturn:
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201  logging is configured by these settings
    raise SystemExit(EXIT_CODE)


def _unknown_variables(settings_class: type[ServerSettings]) -> Iterator[str]:
    own = {_variable(name) for name in settings_class.model_fields}
    known = own | VARIABLES_OF_SERVICES | _OTHER_VARIABLES
    for given in sorted(os.environ):
        name = given.upper()
        if not name.startswith(ENV_PREFIX) or name in known or _OF_KUBERNETES.fullmatch(name):
            continue
        # without the prefix, which would make all names alike
        endings = [each.removeprefix(ENV_PREFIX) for each in sorted(own | VARIABLES_OF_SERVICES)]
        nearest = get_close_matches(name.removeprefix(ENV_PREFIX), endings, n=1, cutoff=0.7)
        advice = f"; is {ENV_PREFIX}{nearest[0]} meant?" if nearest else ""
        yield f"{given}: there is no such setting{advice}"


def _variable(*path: int | str) -> str:
    return f"{ENV_PREFIX}{path[0]}".upper() if path else "settings"


def _shown(value: object) -> str:
    return "" if value is None else masked(str(value))
