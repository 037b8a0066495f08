"""How large messages may be: no larger than a gRPC client receives unless told otherwise."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

MAX_RECORD_BYTES = MAX_MESSAGE_BYTES - 512 * 1024
"""The most that a caller may give for one record; the rest is for what answers add to it."""
