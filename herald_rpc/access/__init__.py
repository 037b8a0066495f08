"""Access: which token may call which method, on both servers."""
