"""Writes, starts and stops campaigns, on behalf of callers and of the clock."""
