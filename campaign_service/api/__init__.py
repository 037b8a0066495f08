"""The gRPC edge: decodes each call, does it and encodes the response."""
