"""Segments and their targets in SQL, on either database."""
