"""Column types that mean the same on SQLite and on PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, String, Text, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import JSON, TypeEngine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND

# Bytewise order everywhere: SQLite compares UTF-8 bytes by default, PostgreSQL does under "C".
# A CID has up to 320 characters; SQLite holds to no length.
Key = String(255).with_variant(String(320, collation="C"), "postgresql")
PlainText = Text().with_variant(Text(collation="C"), "postgresql")
Count = BigInteger().with_variant(Integer(), "sqlite")
JsonValue = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def to_microseconds(moment: datetime) -> int:
    """Returns microseconds since the epoch. Raises ValueError for a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {moment!r}")
    return (moment - EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """Returns the time; values outside the years 1 to 9999, written elsewhere, become the limit."""
    return EPOCH + timedelta(microseconds=min(max(value, _FIRST), _LAST))


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time: timestamptz on PostgreSQL, integer microseconds on SQLite.

    SQLite has no time type, and its driver returns naive datetimes. An integer is exact, compares
    and sorts correctly, and is cheap to write a million times.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Integer())
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if dialect.name == "sqlite":
            return to_microseconds(value)
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone: {value!r}")
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if dialect.name == "sqlite":
            return from_microseconds(value)
        # already in UTC: see `chat_store.database.postgres.times`
        return cast("datetime", value)
