"""Converts between messages and dataclasses. Refuses invalid input here, at its field."""
