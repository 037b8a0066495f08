"""The chat store in SQL: its stores, their filters and their pages."""
