"""The database layer of both services: connections, schema, bulk statements."""
