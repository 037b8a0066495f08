"""The filter language: parsing, checks, and evaluation of records in memory."""
