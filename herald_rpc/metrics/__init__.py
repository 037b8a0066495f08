"""Metrics in the form of Prometheus, and the probes of a process, on a port of HTTP."""
