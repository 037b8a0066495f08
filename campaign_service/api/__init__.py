"""How callers reach campaigns: each call decoded, done and encoded."""
