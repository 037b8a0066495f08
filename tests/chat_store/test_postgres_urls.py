"""Every parameter of libpq's URLs does what it does there, or is refused by its name."""

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat_store.database.engine import open_database
from chat_store.database.postgres.urls import PostgresAddress, read_url
from chat_store.errors import InvalidDatabaseUrlError
from tests.harness import forkserver

PLAIN = read_url("postgresql://")
KEEPALIVE = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def tcp(option: int, value: int) -> tuple[int, int, int]:
    return (socket.IPPROTO_TCP, option, value)


def driver(**parameters: str) -> PostgresAddress:
    return replace(PLAIN, driver=parameters)


def server(**settings: str) -> PostgresAddress:
    return replace(PLAIN, server_settings=settings)


# those of PostgreSQL 15's documentation, 34.1.2, in its order, then those of later versions
FOLLOWED: list[tuple[str, PostgresAddress]] = [
    ("host=db", replace(PLAIN, hosts=(("db", 5432),))),
    ("host=/run/postgresql", replace(PLAIN, hosts=(("/run/postgresql", 5432),))),
    ("host=a,b", replace(PLAIN, hosts=(("a", 5432), ("b", 5432)))),
    ("host=a,b&port=1,2", replace(PLAIN, hosts=(("a", 1), ("b", 2)))),
    ("host=a,b&port=9", replace(PLAIN, hosts=(("a", 9), ("b", 9)))),
    ("host=::1&port=9", replace(PLAIN, hosts=(("::1", 9),))),
    ("dbname=herald", replace(PLAIN, dbname="herald")),
    ("user=anna", replace(PLAIN, user="anna")),
    ("password=a%26b%2Bc+d", replace(PLAIN, password="a&b+c+d")),  # noqa: S106 - no secret
    ("passfile=/etc/pass", driver(passfile="/etc/pass")),
    ("channel_binding=prefer", PLAIN),
    ("channel_binding=disable", PLAIN),
    ("connect_timeout=20", replace(PLAIN, connect_seconds=20)),
    ("connect_timeout=1", replace(PLAIN, connect_seconds=2)),
    ("connect_timeout=0", replace(PLAIN, connect_seconds=None)),
    ("client_encoding=UTF8", PLAIN),
    ("client_encoding=auto", PLAIN),
    ("options=-c%20search_path%3Dherald", server(options="-c search_path=herald")),
    ("application_name=herald", server(application_name="herald")),
    ("fallback_application_name=f", server(application_name="f")),
    ("application_name=a&fallback_application_name=f", server(application_name="a")),
    ("keepalives=1", replace(PLAIN, socket_options=(KEEPALIVE,))),
    ("keepalives=0", replace(PLAIN, socket_options=())),
    (
        "keepalives_idle=30",
        replace(PLAIN, socket_options=(KEEPALIVE, tcp(socket.TCP_KEEPIDLE, 30))),
    ),
    (
        "keepalives_interval=5",
        replace(PLAIN, socket_options=(KEEPALIVE, tcp(socket.TCP_KEEPINTVL, 5))),
    ),
    (
        "keepalives_count=3",
        replace(PLAIN, socket_options=(KEEPALIVE, tcp(socket.TCP_KEEPCNT, 3))),
    ),
    (
        "tcp_user_timeout=9000",
        replace(PLAIN, socket_options=(KEEPALIVE, tcp(socket.TCP_USER_TIMEOUT, 9_000))),
    ),
    ("replication=false", PLAIN),
    ("gssencmode=prefer", PLAIN),
    ("gssencmode=disable", PLAIN),
    *[
        (f"sslmode={mode}", driver(sslmode=mode))
        for mode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
    ],
    ("ssl=true", driver(sslmode="require")),
    ("sslcompression=0", PLAIN),
    (f"sslcert={__file__}", driver(sslcert=__file__)),
    (f"sslkey={__file__}", driver(sslkey=__file__)),
    ("sslpassword=secret", driver(sslpassword="secret")),
    (f"sslrootcert={__file__}", driver(sslrootcert=__file__)),
    (f"sslcrl={__file__}", driver(sslcrl=__file__)),
    ("sslsni=1", PLAIN),
    ("ssl_min_protocol_version=TLSv1.3", driver(ssl_min_protocol_version="TLSv1.3")),
    ("ssl_max_protocol_version=TLSv1.2", driver(ssl_max_protocol_version="TLSv1.2")),
    ("krbsrvname=pg", driver(krbsrvname="pg")),
    ("gsslib=gssapi", driver(gsslib="gssapi")),
    *[
        (f"target_session_attrs={kind}", replace(PLAIN, target_session_attrs=kind))
        for kind in ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
    ],
    ("sslnegotiation=postgres", driver(sslnegotiation="postgres")),
    ("sslmode=", PLAIN),
    ("sslmode=disable&sslmode=require", driver(sslmode="require")),
]
REFUSED = """
    hostaddr=127.0.0.1 channel_binding=require client_encoding=LATIN1 keepalives=yes
    keepalives_idle=soon keepalives_interval=1.5 keepalives_count=x tcp_user_timeout=1s
    connect_timeout=never replication=database gssencmode=require sslmode=on sslcompression=1
    sslcert=/none sslkey=/none sslrootcert=/none sslrootcert=system sslcrl=/none sslcrldir=/etc
    sslsni=0 requirepeer=postgres ssl_min_protocol_version=SSLv3 ssl_max_protocol_version=TLSv9
    gsslib=sspi service=herald target_session_attrs=leader ssl=require
    require_auth=none sslcertmode=require load_balance_hosts=random gssdelegation=1
    sslnegotiation=none port=0 port=65536 port=x port=1,2 host=a,,b
    prepared_statement_cache_size=0 TimeZone=CET search_path=herald nonsense=1 sslmode
""".split()


@pytest.mark.parametrize(("query", "expected"), FOLLOWED)
def test_a_parameter_does_what_it_does_in_libpq(query: str, expected: PostgresAddress) -> None:
    assert read_url(f"postgresql://?{query}") == expected


@pytest.mark.parametrize("query", REFUSED)
def test_a_parameter_that_can_not_be_followed_is_refused_by_its_name(query: str) -> None:
    name = query.partition("=")[0]

    with pytest.raises(InvalidDatabaseUrlError) as caught:
        read_url(f"postgresql://anna:secret@db/herald?{query}")

    error_text = str(caught.value)
    assert error_text.startswith(f"database URL: {name}: ")
    assert "\n" not in error_text
    assert "secret" not in error_text


@pytest.mark.parametrize(
    ("url", "changes"),
    [
        ("postgresql://", {}),
        ("postgres://db", {"hosts": (("db", 5432),)}),
        ("postgresql+asyncpg://db:6543", {"hosts": (("db", 6543),)}),
        ("postgresql:///herald", {"dbname": "herald"}),
        ("postgresql://anna@/herald?host=/tmp", {"user": "anna", "dbname": "herald"}),
        ("postgresql://an%40na:p%2Fw%3A@db", {"user": "an@na", "password": "p/w:"}),
        ("postgresql://[::1]:6543/herald", {"hosts": (("::1", 6543),), "dbname": "herald"}),
        ("postgresql://a:1,b,[::1]:3/d", {"hosts": (("a", 1), ("b", 5432), ("::1", 3))}),
        ("postgresql://%2Frun%2Fpg/d", {"hosts": (("/run/pg", 5432),), "dbname": "d"}),
        ("postgresql://a:1/d?host=b&port=2&dbname=e", {"hosts": (("b", 2),), "dbname": "e"}),
        ("postgresql://db:5432/d?user=a@b", {"hosts": (("db", 5432),), "user": "a@b"}),
    ],
)
def test_a_place_is_read_as_libpq_reads_it(url: str, changes: dict[str, Any]) -> None:
    address = read_url(url)

    assert {name: getattr(address, name) for name in changes} == changes


@pytest.mark.parametrize(
    "url",
    ["postgresql://anna:se@cret@db/d", "postgresql://anna:sec/ret@db/d", "postgresql://a b:c d e"],
)
def test_a_url_that_can_not_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError) as caught:
        read_url(url)

    assert "cret" not in str(caught.value)


def test_both_servers_and_the_commands_refuse_in_one_line_and_keep_the_password(
    tmp_path: Path,
) -> None:
    url = "postgresql://anna:secret@db/herald?sslmode=require&sslcrldir=/etc/ssl"
    file = tmp_path / "users.jsonl"
    file.write_text("")
    error_text = []
    for module in ("segment_service", "campaign_service"):
        log = tmp_path / f"{module}.log"
        process = forkserver.run(module, {"HERALD_DATABASE_URL": url}, log)
        assert process.wait(60) == 1
        error_text.append(log.read_text())
    for module, *command in (
        ("chat_store", "migrate"),
        ("chat_store", "import", str(file)),
        ("campaign_service", "verify", "spring"),
    ):
        done = forkserver.completed(module, *command, "--database-url", url)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        error_text.append(done.stderr)

    for text in error_text:
        assert "sslcrldir: is not supported" in text
        assert "secret" not in text
        assert "Traceback" not in text


async def test_a_database_is_reached_by_its_second_host(postgres_url: str) -> None:
    first = postgres_url.replace("?host=", "?host=/nowhere,")
    database = open_database(first)

    answers = await database.is_available()
    await database.close()

    assert answers
