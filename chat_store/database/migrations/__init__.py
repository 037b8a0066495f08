"""The schema's history. Both services' tables are in it: there is one database."""
