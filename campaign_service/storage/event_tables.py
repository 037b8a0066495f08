"""The tables of events and webhooks."""

from sqlalchemy import (
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    text,
)

from chat_store.database.columns import Count, JsonValue, Key, PlainText, UtcTime

metadata = MetaData()

# One row for each change of a campaign and for each page that it has sent, written in the same
# transaction. A page is one row, however many messages it has: its events are derived from it.
event_log = Table(
    "event_log",
    metadata,
    # empty for events without a campaign
    Column("campaign_id", Key, nullable=False),
    # the campaign's revision when it happened
    Column("revision", Integer, nullable=False),
    # -1: the change that made the revision, which comes before the pages sent at it
    Column("shard", Integer, nullable=False),
    # counted within the shard; no number is missing, because its lease has one holder
    Column("page", Integer, nullable=False),
    # Assigned after the commit by the next reader of the log, one reader at a time, so that no entry
    # appears before one that a reader has seen. NULL until then.
    Column("position", Count),
    # an event's type, or `page`
    Column("type", String(32), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("skip_webhook", Boolean, nullable=False),
    Column("skip_push", Boolean, nullable=False),
    # how many messages a page has, and how many channels it has created
    Column("messages", Count, nullable=False),
    Column("channels", Count, nullable=False),
    # the targets of both, as compressed JSON; see `campaigns.event_pages`. Of the change that starts a
    # campaign: the `traceparent` of the call that made it, if traces are on.
    Column("content", LargeBinary),
    # targets whose channels the sender has entered, and targets that see their channel again
    Column("joined", JsonValue, nullable=False),
    Column("shown", JsonValue, nullable=False),
    PrimaryKeyConstraint("campaign_id", "revision", "shard", "page"),
    Index("event_log_by_position", "position", unique=True),
    Index("event_log_by_campaign", "campaign_id", "position"),
    Index(
        "event_log_without_position",
        "campaign_id",
        "revision",
        "shard",
        "page",
        sqlite_where=text("position IS NULL"),
        postgresql_where=text("position IS NULL"),
    ),
)

# One row, from the first position on. It is locked while positions are assigned.
event_log_ends = Table(
    "event_log_ends",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # the position that the next entry gets
    Column("next_position", Count, nullable=False),
    # entries before it were older than the retention, and are deleted
    Column("first_position", Count, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Key, primary_key=True),
    Column("url", PlainText, nullable=False),
    Column("event_types", JsonValue, nullable=False),
    Column("secret", PlainText, nullable=False),
    # also signs, until `previous_secret_until`
    Column("previous_secret", PlainText),
    Column("previous_secret_until", UtcTime),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_reason", PlainText, nullable=False),
    Column("timeout_ms", Integer, nullable=False),
    Column("max_batch_events", Integer, nullable=False),
    # entries from here on are not in its lanes yet
    Column("position", Count, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    # principals; empty for webhooks from before this was stored
    Column("created_by", PlainText, nullable=False),
    Column("updated_by", PlainText, nullable=False),
    Index("webhooks_by_created_at", "created_at", "id"),
)

# The events of a campaign, or of a replay, that one webhook still has to get: from one offset to
# another. One sender at a time has the lease of a lane, so its events are sent in order.
webhook_lanes = Table(
    "webhook_lanes",
    metadata,
    Column("webhook_id", Key, nullable=False),
    Column("campaign_id", Key, nullable=False),
    # empty for new events; otherwise the replay or the redelivered attempt
    Column("replay_id", Key, nullable=False),
    # the next event: how many events of the entry at `position` are done
    Column("position", Count, nullable=False),
    Column("number", Count, nullable=False),
    # the offset after the last event
    Column("end_position", Count, nullable=False),
    Column("end_number", Count, nullable=False),
    # the limits of a replay
    Column("types", JsonValue),
    Column("not_before", UtcTime),
    Column("not_after", UtcTime),
    # The offset after the batch in progress. After a failed attempt also its bytes, its first event
    # and its number of events.
    Column("batch_position", Count),
    Column("batch_number", Count),
    Column("body", LargeBinary),
    Column("event_id", Key),
    Column("event_type", String(32)),
    Column("events", Integer),
    Column("attempts", Integer, nullable=False),
    Column("first_attempt_at", UtcTime),
    Column("next_attempt_at", UtcTime),
    # a new value with each claim
    Column("lease", Key),
    Column("lease_until", UtcTime),
    PrimaryKeyConstraint("webhook_id", "campaign_id", "replay_id"),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("id", Key, primary_key=True),
    Column("webhook_id", Key, nullable=False),
    Column("campaign_id", Key, nullable=False),
    # the first event of the batch, and the number of its events
    Column("event_id", Key, nullable=False),
    Column("event_type", String(32), nullable=False),
    Column("events", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("attempted_at", UtcTime, nullable=False),
    Column("response_status", Integer, nullable=False),
    Column("error", PlainText, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("next_attempt_at", UtcTime),
    # from the offset of the first event to the offset after the last one
    Column("position", Count, nullable=False),
    Column("number", Count, nullable=False),
    Column("end_position", Count, nullable=False),
    Column("end_number", Count, nullable=False),
    Column("types", JsonValue),
    Index("webhook_attempts_by_time", "webhook_id", "attempted_at", "id"),
    Index("webhook_attempts_by_outcome", "webhook_id", "outcome", "attempted_at", "id"),
    Index("webhook_attempts_by_age", "attempted_at"),
)

# Calls of ReplayEvents that can be repeated.
webhook_replays = Table(
    "webhook_replays",
    metadata,
    Column("webhook_id", Key, nullable=False),
    Column("request_id", Key, nullable=False),
    Column("events", Count, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("webhook_id", "request_id"),
)

# One row, from the first server with a push gateway on: what is before this offset has been taken
# for pushing, whether it was pushed or not.
push_place = Table(
    "push_place",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("position", Count, nullable=False),
    Column("number", Count, nullable=False),
)

# The counts of a campaign's pushes.
campaign_pushes = Table(
    "campaign_pushes",
    metadata,
    Column("campaign_id", Key, nullable=False),
    # of `campaigns.pushes`
    Column("outcome", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("pushes", Count, nullable=False),
    PrimaryKeyConstraint("campaign_id", "outcome", "reason"),
    sqlite_with_rowid=False,
)
