"""What the service asks of its database, and the SQL that answers: each method is one transaction."""
