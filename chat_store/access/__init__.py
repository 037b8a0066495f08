"""Tokens: who may make which calls."""
