"""Metrics of campaigns, of senders and of the delivery of events."""
