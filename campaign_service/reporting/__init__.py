"""Campaigns as callers see them: read models, read receipts and watching."""
