"""Real connections to PostgreSQL: over TLS, and in sessions that a role has set otherwise."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from sqlalchemy import text
from sqlalchemy.engine import make_url

from chat_store.database.engine import open_database
from chat_store.database.postgres.connections import SESSION
from chat_store.errors import StoreUnavailableError
from tests.harness.postgres import Postgres

_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_CHUNK = 65_536


@dataclass
class Front:
    """Speaks TLS in front of a PostgreSQL that was built without it, as a managed one's gate does."""

    socket: str
    context: ssl.SSLContext
    tls: int = 0
    plain: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            try:
                first = await reader.readexactly(len(_SSL_REQUEST))
                if first == _SSL_REQUEST:
                    writer.write(b"S")
                    await writer.start_tls(self.context)
                    self.tls += 1
                    first = b""
                else:
                    self.plain += 1
                await self._relay(first, reader, writer)
            except (OSError, EOFError):
                # the client did not like what it saw, or this one did not like the client
                return

    async def _relay(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self.socket)
        with closing(to_server):
            to_server.write(first)
            ways = [
                asyncio.create_task(_pump(reader, to_server)),
                asyncio.create_task(_pump(from_server, writer)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


@asynccontextmanager
async def tls_in_front(
    postgres_url: str, authority: trustme.CA, name: str = "localhost", *, asks: bool = False
) -> AsyncIterator[tuple[Front, str]]:
    """And the URL through it. `asks`: for a certificate of the client, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if asks:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    url = make_url(postgres_url)
    front = Front(f"{url.query['host']}/.s.PGSQL.5432", context)
    server = await asyncio.start_server(front.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield front, f"postgresql://postgres@localhost:{port}/{url.database}"
    finally:
        server.close()
        await asyncio.gather(*front.tasks)


async def connects(url: str) -> bool:
    database = open_database(url)
    try:
        async with database.snapshot() as connection:
            return bool(await connection.scalar(text("SELECT 1")))
    except StoreUnavailableError:
        return False
    finally:
        await database.close()


async def test_a_database_that_wants_tls_gets_it(
    postgres_url: str, authority: trustme.CA, ca_file: Path
) -> None:
    async with tls_in_front(postgres_url, authority) as (front, url):
        reached = [
            await connects(f"{url}?{parameters}")
            for parameters in (
                "",
                "sslmode=require",
                "ssl=true",
                f"sslmode=verify-ca&sslrootcert={ca_file}",
                f"sslmode=verify-full&sslrootcert={ca_file}",
                "sslmode=require&ssl_min_protocol_version=TLSv1.3",
            )
        ]
        encrypted, plain = front.tls, front.plain
        disabled = await connects(f"{url}?sslmode=disable")

    assert all(reached)
    assert (encrypted, plain) == (6, 0)
    assert (disabled, front.tls, front.plain) == (True, 6, 1)


async def test_a_certificate_is_checked_as_far_as_the_mode_says(
    postgres_url: str, authority: trustme.CA, ca_file: Path
) -> None:
    modes = ("require", "verify-ca", "verify-full")
    reached = {}
    async with tls_in_front(postgres_url, authority, "another.example") as (_, url):
        for mode in modes:
            reached["another name", mode] = await connects(
                f"{url}?sslmode={mode}&sslrootcert={ca_file}"
            )
    async with tls_in_front(postgres_url, trustme.CA()) as (_, url):
        for mode in modes:
            reached["another authority", mode] = await connects(
                f"{url}?sslmode={mode}&sslrootcert={ca_file}"
            )
        unchecked = await connects(f"{url}?sslmode=require")

    # with a root certificate, `require` checks as `verify-ca` does: so it is in libpq
    assert {case for case, there in reached.items() if there} == {
        ("another name", "require"),
        ("another name", "verify-ca"),
    }
    assert unchecked


async def test_a_client_shows_the_certificate_that_its_url_names(
    postgres_url: str, authority: trustme.CA, tmp_path: Path
) -> None:
    client = authority.issue_cert("herald.example")
    cert, key = tmp_path / "client.pem", tmp_path / "client.key"
    client.cert_chain_pems[0].write_to_path(str(cert))
    client.private_key_pem.write_to_path(str(key))
    async with tls_in_front(postgres_url, authority, asks=True) as (_, url):
        with_one = await connects(f"{url}?sslmode=require&sslcert={cert}&sslkey={key}")
        without = await connects(f"{url}?sslmode=require")

    assert (with_one, without) == (True, False)


@pytest.fixture
def stubborn_url(postgres: Postgres, postgres_url: str) -> Iterator[str]:
    """A database whose settings are others in everything that could change an answer."""
    name = make_url(postgres_url).database
    others = {
        "TimeZone": "Asia/Kathmandu",
        "DateStyle": "SQL, DMY",
        "IntervalStyle": "iso_8601",
        "array_nulls": "off",
        "bytea_output": "escape",
        "default_transaction_deferrable": "on",
        "default_transaction_isolation": "serializable",
        "extra_float_digits": "-15",
        "gin_fuzzy_search_limit": "1",
        "plan_cache_mode": "force_generic_plan",
        "standard_conforming_strings": "off",
        "transform_null_equals": "on",
    }
    assert others.keys() == SESSION.keys()
    for setting, value in others.items():
        postgres.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    yield postgres_url
    postgres.execute(f"ALTER DATABASE {name} RESET ALL")


async def test_settings_of_a_database_do_not_change_what_its_statements_answer(
    stubborn_url: str,
) -> None:
    database = open_database(f"{stubborn_url}&application_name=herald&options=-c%20work_mem%3D9MB")
    async with database.autocommit() as connection:
        found = {
            name: await connection.scalar(text(f"SELECT current_setting('{name}')"))
            for name in (*SESSION, "application_name", "work_mem")
        }
        number = await connection.scalar(text("SELECT (0.1::float8 + 0.2::float8)::text"))
        moment = await connection.scalar(text("SELECT '2026-02-01 00:00:00Z'::timestamptz::text"))
    async with database.transaction() as connection:
        isolation = await connection.scalar(text("SELECT current_setting('transaction_isolation')"))
    await database.close()

    assert found == {**SESSION, "application_name": "herald", "work_mem": "9MB"}
    assert (number, moment) == ("0.30000000000000004", "2026-02-01 00:00:00+00")
    assert isolation == "read committed"
