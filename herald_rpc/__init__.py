"""What both servers, and the programs that call them, share of gRPC."""
