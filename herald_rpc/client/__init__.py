"""Channels to the servers."""
