"""The audit log: who changed which resource, chained by hashes."""
