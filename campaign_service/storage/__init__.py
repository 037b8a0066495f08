"""The ports to the database and their SQL: each method is one transaction."""
