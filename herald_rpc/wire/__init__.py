"""Converts between the chat store's values and messages, for both services."""
