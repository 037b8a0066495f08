"""Events: read from the log, and given to those who want them."""
