"""A page of targets turned into the rows that are to be written for it."""
