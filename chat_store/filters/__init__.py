"""The filter language: read, checked, and evaluated on a record in memory."""
