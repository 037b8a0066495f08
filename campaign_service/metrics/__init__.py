"""What Prometheus is told of campaigns, of senders and of the delivery of events."""
