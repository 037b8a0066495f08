"""The campaign's values and rules, which need neither a database nor the network."""
