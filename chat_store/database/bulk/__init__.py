"""Statements over many rows, built once and executed often, on either database."""
