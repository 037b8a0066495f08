"""The import of a user base, line by line."""
