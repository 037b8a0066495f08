"""Users by the ten thousand, written by the database itself in one statement."""

_MOMENTS = {"sqlite": "1767225600000000", "postgresql": "'2026-01-01T00:00:00Z'"}


def insert_users(dialect: str, how_many: int) -> str:
    """Inserts users of whom only the ids and names differ. Less than 100,000,000."""
    moment = _MOMENTS[dialect]
    return f"""
        INSERT INTO users (id, name, role, teams, custom, banned, shadow_banned, push_preferences,
            created_at, updated_at)
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers
            WHERE n < {how_many})
        SELECT 'user-' || substr(CAST(100000000 + n AS text), 2), 'Person ' || n, 'user', '[]',
            '{{}}', FALSE, FALSE, '{{}}', {moment}, {moment}
        FROM numbers"""


def user_id(number: int) -> str:
    """Of the users, counted from 1; the ids are in the order of the numbers."""
    return f"user-{number:08}"
