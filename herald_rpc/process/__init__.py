"""A process of ours: its settings, its logs, and the workers it starts."""
