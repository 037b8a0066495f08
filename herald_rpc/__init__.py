"""The gRPC code that both servers and the programs that call them share."""
