"""Statements over many rows at once, built once and executed often, on either database."""
