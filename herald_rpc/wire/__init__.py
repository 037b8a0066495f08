"""The chat store's values as messages, shared by both services."""
