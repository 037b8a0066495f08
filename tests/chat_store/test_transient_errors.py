"""What is worth another try, and what is a mistake of ours."""

import asyncpg
import pytest
from sqlalchemy.exc import InternalError, ProgrammingError

from chat_store.database import is_transient

CUT = asyncpg.InternalClientError("cannot switch to state 11; another operation is in progress")
NO_TABLE = asyncpg.UndefinedTableError("relation does not exist")


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError(), True),
        (asyncpg.CannotConnectNowError(), True),
        (asyncpg.SerializationError(), True),
        (CUT, True),
        (InternalError("SELECT 1", None, CUT), True),
        (NO_TABLE, False),
        (ProgrammingError("SELECT 1", None, NO_TABLE), False),
        (LookupError(), False),
    ],
)
def test_a_connection_that_is_lost_is_worth_another_try(error: Exception, transient: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_transient(error) is transient
