"""The campaign service's own tables, in the same database as the chat store's."""

from sqlalchemy import (
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    column,
    false,
    table,
)

from chat_store.database.columns import Count, JsonValue, Key, PlainText, UtcTime

metadata = MetaData()

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", PlainText, nullable=False),
    Column("description", PlainText, nullable=False),
    Column("status", String(16), nullable=False),
    Column("status_reason", PlainText, nullable=False),
    Column("sender_id", Key, nullable=False),
    Column("segment_ids", JsonValue, nullable=False),
    Column("to_channels", Boolean, nullable=False),
    Column("sender_mode", String(16)),
    Column("sender_visibility", String(16)),
    Column("message_template", JsonValue, nullable=False),
    Column("create_channels", Boolean, nullable=False),
    Column("show_channels", Boolean, nullable=False),
    Column("channel_template", JsonValue),
    Column("skip_push", Boolean, nullable=False),
    Column("skip_webhook", Boolean, nullable=False),
    Column("max_messages_per_second", Integer, nullable=False),
    Column("scheduled_for", UtcTime),
    Column("stop_at", UtcTime),
    Column("started_at", UtcTime),
    Column("completed_at", UtcTime),
    Column("targets_total", Count, nullable=False),
    # grows with every change of the definition or the status; the etag is made of it
    Column("revision", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),
    # principals; empty for campaigns from before this was stored
    Column("created_by", PlainText, nullable=False),
    Column("updated_by", PlainText, nullable=False),
    Index("campaigns_by_created_at", "created_at", "id"),
    Index("campaigns_by_status", "status"),
)

COUNTERS = ("messages_sent", "channels_created", "targets_skipped", "targets_failed")

# A campaign with its counters at each revision. Watchers see every one.
campaign_changes = Table(
    "campaign_changes",
    metadata,
    *(Column(column.name, column.type, nullable=column.nullable) for column in campaigns.columns),
    *(Column(name, Count, nullable=False) for name in COUNTERS),
    PrimaryKeyConstraint("id", "revision"),
)

campaign_users = Table(
    "campaign_users",
    metadata,
    Column("campaign_id", Key, nullable=False),
    Column("user_id", Key, nullable=False),
    PrimaryKeyConstraint("campaign_id", "user_id"),
    sqlite_with_rowid=False,
)

# The sender's progress: the lease and the cursor of each part of the audience.
campaign_shards = Table(
    "campaign_shards",
    metadata,
    Column("campaign_id", Key, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("shard_count", Integer, nullable=False),
    # another pass over the audience follows if a listed segment changed during the last one
    Column("pass_number", Integer, nullable=False),
    Column("audience_version", PlainText, nullable=False),
    Column("cursor", PlainText, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("lease_owner", PlainText),
    Column("lease_until", UtcTime),
    # grows with every claim: a sender that slept through its lease is refused by it
    Column("fence", Integer, nullable=False),
    # how many pages with messages it has written
    Column("pages", Integer, nullable=False, server_default="0"),
    # its next page was not written, because all its targets would fail and nothing was sent yet
    Column("fails", Boolean, nullable=False, server_default=false()),
    *(Column(name, Count, nullable=False) for name in COUNTERS),
    PrimaryKeyConstraint("campaign_id", "shard"),
    Index("campaign_shards_by_lease", "finished", "lease_until"),
)

# One row for every target without a message. Targets with one are in `messages`.
campaign_outcomes = Table(
    "campaign_outcomes",
    metadata,
    Column("campaign_id", Key, nullable=False),
    Column("target_id", Key, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # the channel that is the reason, if one is
    Column("cid", Key),
    PrimaryKeyConstraint("campaign_id", "target_id"),
    Index("campaign_outcomes_by_outcome", "campaign_id", "outcome", "target_id"),
    sqlite_with_rowid=False,
)

# The rate limiters, in microseconds since the epoch: one per campaign with a limit, and one for all
# campaigns together under the empty id. `scheduled_at` is when the next message is due, and
# `not_before` the earliest time at which it may be sent if earlier ones were late.
rate_limits = Table(
    "rate_limits",
    metadata,
    Column("campaign_id", Key, primary_key=True),
    Column("scheduled_at", Count, nullable=False),
    Column("not_before", Count, nullable=False),
    sqlite_with_rowid=False,
)

# The number of messages that all campaigns have written per calendar month (UTC, `2026-03`),
# counted while there is a quota. Each page adds its own in its transaction.
campaign_months = Table(
    "campaign_months",
    metadata,
    Column("month", String(7), primary_key=True),
    Column("messages", Count, nullable=False),
    sqlite_with_rowid=False,
)


# The last known place of this database, in one row; after a restore it differs from the actual
# place. `origin` is a random name on SQLite, where a file beside the database repeats it together
# with the `generation`. On PostgreSQL it is the system identifier of the cluster, and `place` has
# the oids of the database and of this table.
restore_guard = Table(
    "restore_guard",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("origin", PlainText, nullable=False),
    Column("place", PlainText, nullable=False),
    Column("generation", Count, nullable=False),
    # a `holds.Because`; empty while the database is not held
    Column("held_because", PlainText, nullable=False),
)

# A view with one row while the database is held, and none otherwise.
holds = table("holds", column("because", PlainText))
