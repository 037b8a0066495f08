"""The commands of `herald`."""
