"""Limits of messages, from the 4 MiB that a gRPC client receives by default."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

MAX_RECORD_BYTES = MAX_MESSAGE_BYTES - 512 * 1024
"""The most that a caller may give for one record; the rest is for the fields of a response."""
