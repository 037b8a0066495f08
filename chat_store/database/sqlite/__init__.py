"""SQLite only: connections, functions, and the queue for the write lock."""
