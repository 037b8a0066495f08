"""Users and channels that are there before a campaign, written by the database itself.

From 1,000 to 10,000,000 of them, in a few statements that both databases understand.
"""

from tests.bench.bare import Bare
from tests.bench.places import Kind
from tests.harness.main_job import CHANNEL_TYPE, SENDER

_MOMENT = {Kind.SQLITE: "1767225600000000", Kind.POSTGRESQL: "'2026-01-01T00:00:00Z'"}
_CID = f"'{CHANNEL_TYPE}:' || id || '-{SENDER.id}'"

_CHANNELS = f"""
    INSERT INTO channels (cid, type, id, created_by_id, custom, filter_tags, frozen, disabled,
        "distinct", member_count, message_count, created_at, updated_at)
    SELECT {_CID}, '{CHANNEL_TYPE}', id || '-{SENDER.id}', '{SENDER.id}', '{{}}', '[]', FALSE,
        FALSE, FALSE, 2, 0, created_at, created_at
    FROM users WHERE role = 'user' ORDER BY users.id"""
_MEMBERS = f"""
    INSERT INTO members (cid, user_id, channel_role, custom, hidden, created_at)
    SELECT {_CID}, CASE seat WHEN 1 THEN '{SENDER.id}' ELSE id END, 'channel_member', '{{}}',
        FALSE, created_at
    FROM users CROSS JOIN (SELECT 1 AS seat UNION ALL SELECT 2) AS seats
    WHERE role = 'user' ORDER BY users.id, seat"""


def fill_users(bare: Bare, kind: Kind, how_many: int) -> None:
    """Makes users of whom only the ids and names differ. Less than 100,000,000."""
    bare.fill(
        f"""
        INSERT INTO users (id, name, role, teams, custom, banned, shadow_banned, push_preferences,
            created_at, updated_at)
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers
            WHERE n < {how_many})
        SELECT 'user-' || substr(CAST(100000000 + n AS text), 2), 'Person ' || n, 'user', '[]',
            '{{}}', FALSE, FALSE, '{{}}', {_MOMENT[kind]}, {_MOMENT[kind]}
        FROM numbers"""
    )


def fill_channels(bare: Bare) -> None:
    """Makes the channel of the sender and each user, with the id that the main job gives it."""
    bare.fill(_CHANNELS, _MEMBERS)
    bare.settle()
