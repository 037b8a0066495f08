"""Reads events from the log, and delivers them to streams, webhooks and JetStream."""
