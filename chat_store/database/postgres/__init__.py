"""PostgreSQL alone: its URL as libpq reads it, and the connections that are made of it."""
