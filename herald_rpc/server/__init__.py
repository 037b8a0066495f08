"""A server: how calls are admitted, answered and ended."""
