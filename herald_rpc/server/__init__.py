"""The server side: admission, responses and shutdown."""
