"""Those who follow campaigns: one poll of the database for all of them."""
