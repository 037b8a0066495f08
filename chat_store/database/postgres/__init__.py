"""PostgreSQL only: URLs as libpq reads them, and connections."""
