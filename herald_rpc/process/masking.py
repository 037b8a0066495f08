"""Masks the secrets in URLs, so that settings can be logged."""

import re
from collections.abc import Iterator
from urllib.parse import unquote

_MASK = "***"

_HOST = r"(\[[^\]/?#@]*\]|[^:/?#@,\[\]]*)(:\d*)?"
_URL = re.compile(
    r"((?P<user>[^:/?#@]*)(?P<password>:[^/?#@]*)?(?P<at>@))?"
    rf"(?P<hosts>{_HOST}(,{_HOST})*)"
    r"(?P<path>/[^?#@]*)?"
    r"(\?(?P<query>[^#@]*))?"
)
_FILE = re.compile(r"(?P<path>/[^?#]*)(\?(?P<query>[^#@]*))?")

# Parameters of PostgreSQL's URLs that are not secret. All others are masked.
_PLAIN_PARAMETERS = frozenset(
    """
    application_name channel_binding client_encoding connect_timeout dbname
    fallback_application_name gssencmode host keepalives keepalives_count keepalives_idle
    keepalives_interval krbsrvname port replication ssl ssl_max_protocol_version
    ssl_min_protocol_version sslcert sslcrl sslkey sslmode sslnegotiation sslrootcert sslsni
    target_session_attrs tcp_user_timeout user
    """.split()
)
_SECRET_PARAMETERS = frozenset({"options", "passfile", "password", "sslpassword"})


def masked(value: str) -> str:
    """Returns the value with each secret of a URL replaced by `***`.

    A URL whose parts can't be separated is masked except for its scheme, because any part may
    belong to a password without percent-encoding.
    """
    scheme, separator, rest = value.partition("://")
    if not separator:
        return value
    match = (_FILE if scheme.startswith("sqlite") else _URL).fullmatch(rest)
    if match is None:
        return f"{scheme}://{_MASK}"
    parts = match.groupdict()
    shown = [scheme, "://", parts.get("user") or ""]
    if parts.get("password"):
        shown.append(f":{_MASK}")
    shown += [parts.get(name) or "" for name in ("at", "hosts", "path")]
    if parts["query"] is not None:
        shown += ["?", "&".join(_masked_parameters(parts["query"]))]
    return "".join(shown)


def _masked_parameters(query: str) -> Iterator[str]:
    """Yields the parameters; masks unknown ones with their names.

    An unknown parameter may be the rest of a password that contains "&".
    """
    for part in query.split("&"):
        name, separator, _ = part.partition("=")
        if separator and unquote(name) in _PLAIN_PARAMETERS:
            yield part
        elif separator and unquote(name).lower() in _SECRET_PARAMETERS:
            yield f"{name}={_MASK}"
        else:
            yield _MASK
