"""Gives and takes tokens."""
