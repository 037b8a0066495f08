"""Parts of every Herald process: settings, logs, and worker processes."""
