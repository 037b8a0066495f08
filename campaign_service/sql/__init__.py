"""The stores in SQL, on either database: each method is one transaction."""
