"""Messages to dataclasses and back. What a caller gets wrong is refused here, at its field."""
