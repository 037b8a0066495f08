"""What both services use of the database: connections, schema, many rows at once."""
