"""What a campaign is: values and rules that need neither a database nor the network."""
