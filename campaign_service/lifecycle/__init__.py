"""Callers and the clock write campaigns, start them and stop them."""
