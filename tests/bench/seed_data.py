"""Channels that are there before a campaign, written by the database itself.

From 1,000 to 10,000,000 of them, in a few statements that both databases understand.
"""

from tests.bench.bare_driver import BareDriver
from tests.harness.hello_campaign import CHANNEL_TYPE, SENDER

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


def fill_channels(driver: BareDriver) -> None:
    """Makes the channel of the sender and each user, with the id that the main job gives it."""
    driver.fill(_CHANNELS, _MEMBERS)
    driver.settle()
