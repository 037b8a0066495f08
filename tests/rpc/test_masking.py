"""No part of a password is shown, in whatever form of URL it is given."""

from collections.abc import Iterator
from itertools import product
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_store.database.postgres.urls import read_url
from chat_store.errors import InvalidDatabaseUrlError
from herald_rpc.process.masking import masked

# parts that occur in no name, host or parameter of the forms below
HEAD, TAIL = "Xq7head", "Zk9tail"
SEPARATORS = ["", *"@:/?#&=,;%+ []'\"\\\n", "@@", "@host:1/", "?password=", "&password=", "://"]

FORMS = [
    "{scheme}://anna:{secret}@db/herald",
    "{scheme}://anna:{secret}@db:5432/herald?sslmode=require",
    "{scheme}://:{secret}@/herald",
    "{scheme}://anna:{secret}@a:1,b:2/herald",
    "{scheme}://anna:{secret}@[::1]:5432/herald",
    "{scheme}://db:5432/herald?user=anna&password={secret}",
    "{scheme}://db:5432/herald?user=anna&password={secret}&sslmode=require",
    "{scheme}://db/herald?password={secret}&user=anna",
    "{scheme}:///herald?host=/run/postgresql&password={secret}",
    "{scheme}://db/herald?PASSWORD={secret}",
    "{scheme}://db/herald?p%61ssword={secret}",
    "{scheme}://db/herald?sslmode=require&sslpassword={secret}",
    "{scheme}://anna:{secret}@db/herald?password={secret}",
    "{scheme}://anna:{secret}@db",
    "{scheme}://db?password={secret}",
]
SCHEMES = ["postgres", "postgresql", "postgresql+asyncpg"]


def _urls() -> Iterator[str]:
    for form, scheme, separator in product(FORMS, SCHEMES, SEPARATORS):
        secret = f"{HEAD}{separator}{TAIL}"
        yield form.format(scheme=scheme, secret=secret)
        yield form.format(scheme=scheme, secret=quote(secret, safe=""))


def test_no_part_of_a_password_is_shown_in_any_form_of_url() -> None:
    urls = list(_urls())

    leaks = [url for url in urls if HEAD in masked(url) or TAIL in masked(url)]

    assert leaks == []
    assert len(urls) > 1_000


def test_no_part_of_a_password_is_in_the_error_about_a_url() -> None:
    leaks = []
    for url in _urls():
        try:
            read_url(url)
        except InvalidDatabaseUrlError as error:
            if HEAD in str(error) or TAIL in str(error):
                leaks.append((url, str(error)))

    assert leaks == []


@given(secret=st.text(min_size=4).map(lambda text: f"{HEAD}{text}{TAIL}"))
@pytest.mark.parametrize("form", FORMS)
def test_no_password_of_any_characters_is_shown(form: str, secret: str) -> None:
    shown = masked(form.format(scheme="postgresql", secret=secret))

    assert HEAD not in shown
    assert TAIL not in shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://anna@db:5432/herald?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://a:1,b:2,[::1]:3/herald?target_session_attrs=primary",
        "postgresql:///herald?host=/run/postgresql",
        "sqlite:///data/herald.db",
        "127.0.0.1:50051",
        "10",
    ],
)
def test_values_without_a_secret_are_shown_as_they_are(url: str) -> None:
    assert masked(url) == url
