"""The client side: channels to the servers."""
