"""The senders: they claim shards of running campaigns and write them page by page."""
