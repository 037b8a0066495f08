"""SQLite alone: its connections, its functions, and whose turn it is to write."""
