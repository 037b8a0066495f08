"""Campaigns as callers see them: read, counted and watched."""
