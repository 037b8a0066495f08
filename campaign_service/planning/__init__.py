"""Plans a page of targets: computes the rows to write for it."""
